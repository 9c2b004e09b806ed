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

/// Whose attempts count together: with IPv6 a host has a network of addresses to
/// itself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        four @ IpAddr::V4(_) => four,
    }
}

impl Throttle {
    /// Counts a wrong attempt; seconds to wait when there were too many.
    pub fn wrong(&self, address: IpAddr) -> Option<u64> {
        let now = Instant::now();
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= REMEMBERED {
            windows.retain(|_, window| now.duration_since(window.start) < WINDOW);
            let oldest = windows.iter().min_by_key(|(_, window)| window.start).map(|(network, _)| *network);
            if let Some(oldest) = oldest.filter(|_| windows.len() >= REMEMBERED) {
                windows.remove(&oldest);
            }
        }
        let window = windows.entry(network(address)).or_insert(Window { start: now, wrong: 0 });
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
        let window = windows.get(&network(address)).filter(|window| window.wrong >= ALLOWED)?;
        let left = WINDOW.checked_sub(window.start.elapsed())?;
        Some(left.as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_does_not_get_more_by_changing_its_address() {
        let throttle = Throttle::default();
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        assert!((0..10).all(|last| throttle.wrong(address(last)).is_none()));
        assert!(throttle.wrong(address(99)).is_some() && throttle.exhausted(address(100)).is_some());
        assert!(throttle.exhausted(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).is_none());
    }

    #[test]
    fn many_addresses_make_nobody_else_forgotten_but_the_oldest() {
        let throttle = Throttle::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..u32::try_from(REMEMBERED).expect("fits") {
            throttle.wrong(address(number));
        }
        assert!((0..10).all(|_| throttle.wrong(address(50_000)).is_none()));
        throttle.wrong(address(60_000));
        assert!(throttle.exhausted(address(50_000)).is_some());
    }
}
