//! Slows guessing, per address. Only wrong attempts are counted. Whoever has the
//! right admin key is not refused, since nobody guesses that; a password is not
//! even looked at from an address that has guessed too often, and counts as
//! wrong until it has turned out right, or many at once would all be looked at.

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

impl Window {
    /// Seconds until it is over.
    fn left(&self) -> u64 {
        WINDOW.saturating_sub(self.start.elapsed()).as_secs() + 1
    }
}

/// An attempt that is being looked at. It counts as wrong unless it is
/// [taken back](Self::take_back), also when nobody waits for its outcome.
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
}

impl Attempt<'_> {
    /// It was right, or has not been looked at.
    pub fn take_back(self) {
        self.throttle.change(self.address, |window| window.wrong = window.wrong.saturating_sub(1));
    }
}

impl Throttle {
    /// Counts a wrong attempt; seconds to wait when there were too many.
    pub fn wrong(&self, address: IpAddr) -> Option<u64> {
        self.change(address, |window| {
            window.wrong += 1;
            (window.wrong > ALLOWED).then(|| window.left())
        })
    }

    /// Counts an attempt whose outcome is not known yet.
    ///
    /// # Errors
    /// Seconds to wait where there have been so many that it is refused.
    pub fn attempt(&self, address: IpAddr) -> Result<Attempt<'_>, u64> {
        self.change(address, |window| {
            if window.wrong >= ALLOWED {
                return Err(window.left());
            }
            window.wrong += 1;
            Ok(Attempt { throttle: self, address })
        })
    }

    fn change<T>(&self, address: IpAddr, change: impl FnOnce(&mut Window) -> T) -> T {
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
        change(window)
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
        assert!(throttle.wrong(address(99)).is_some() && throttle.attempt(address(100)).is_err());
        assert!(throttle.attempt(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).is_ok());
    }

    #[test]
    fn attempts_at_the_same_time_are_no_more_than_those_one_after_another() {
        let throttle = Throttle::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut begun: Vec<_> = (0..30).filter_map(|_| throttle.attempt(address).ok()).collect();
        assert_eq!(begun.len(), 10);
        // Half of them turn out right.
        begun.drain(5..).for_each(Attempt::take_back);
        drop(begun);
        let again: Vec<_> = (0..30).filter_map(|_| throttle.attempt(address).ok()).collect();
        assert_eq!(again.len(), 5);
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
        assert!(throttle.attempt(address(50_000)).is_err());
    }
}
