//! Slows guessing, per address. Only wrong attempts are counted. Whoever has the
//! right admin key is not refused, since nobody guesses that; a password is not
//! even looked at from an address that has guessed too often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Wrong attempts that an address has in a window.
const ALLOWED: u32 = 10;
/// Addresses remembered; when there are more, the oldest windows go first.
const REMEMBERED: usize = 10_000;

/// Wrong attempts of the last minute, by address.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Window>>);

struct Window {
    start: Instant,
    wrong: u32,
}

impl Throttle {
    /// Counts a wrong attempt; seconds to wait when there were too many.
    pub fn wrong(&self, address: IpAddr) -> Option<u64> {
        let now = Instant::now();
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= REMEMBERED {
            windows.retain(|_, window| now.duration_since(window.start) < WINDOW);
            if windows.len() >= REMEMBERED {
                windows.clear();
            }
        }
        let window = windows.entry(address).or_insert(Window { start: now, wrong: 0 });
        if now.duration_since(window.start) >= WINDOW {
            *window = Window { start: now, wrong: 0 };
        }
        window.wrong += 1;
        let left = WINDOW.saturating_sub(now.duration_since(window.start));
        (window.wrong > ALLOWED).then(|| left.as_secs() + 1)
    }

    /// Seconds to wait where there have been so many that another one would be
    /// refused.
    #[must_use]
    pub fn exhausted(&self, address: IpAddr) -> Option<u64> {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.get(&address).filter(|window| window.wrong >= ALLOWED)?;
        let left = WINDOW.checked_sub(window.start.elapsed())?;
        Some(left.as_secs() + 1)
    }
}
