//! Slows guessing of the admin key, per address, without harm to whoever has
//! the right one: only wrong attempts are counted and refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// Wrong attempts that an address has in a window.
const ALLOWED: u32 = 10;
/// Addresses remembered; when there are more, the oldest windows go first.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Window>>);

struct Window {
    start: Instant,
    wrong: u32,
}

impl Throttle {
    /// Counts a wrong attempt; seconds to wait when there were too many.
    pub(super) fn wrong(&self, address: IpAddr) -> Option<u64> {
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
}
