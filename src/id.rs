//! Identifiers: UUIDv7 whose first half never repeats and never goes back.
//!
//! The first 60 bits that carry information (48 of milliseconds, 12 of a
//! counter, RFC 9562 section 6.2 method 1) are strictly increasing within a
//! database, so they serve as its row numbers: rows lie in the order in which
//! they were made, and looking one up by its id needs no index of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};

/// Makes ids. Clones share one sequence.
#[derive(Clone, Debug)]
pub struct IdSource {
    clock: Clock,
    last: Arc<AtomicU64>,
}

impl IdSource {
    /// A source that continues after `last`, the greatest row number in use.
    #[must_use]
    pub fn new(clock: Clock, last: i64) -> Self {
        let last = Arc::new(AtomicU64::new(u64::try_from(last).unwrap_or(0)));
        Self { clock, last }
    }

    /// The next id. A clock that stands still or is set back does not matter:
    /// the counter then runs ahead of it.
    #[must_use]
    pub fn next(&self) -> Uuid {
        let millis = u64::try_from(self.clock.now().micros() / 1000).unwrap_or(0);
        let floor = millis << 12;
        let advance = |last: u64| Some(floor.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance).unwrap_or_else(|last| last);
        compose(floor.max(last + 1), random_u64())
    }
}

/// The row number inside an id: its millisecond and counter bits.
#[must_use]
pub fn row_number(id: Uuid) -> i64 {
    let high = (id.as_u128() >> 64) as u64;
    // 48 bits of milliseconds, 4 of version, 12 of counter: drop the version.
    let number = (high >> 16 << 12) | (high & 0xfff);
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The least row number that can be given out from a moment on.
#[must_use]
pub fn first_row_number(moment: Timestamp) -> i64 {
    (moment.micros() / 1000) << 12
}

/// The moment of a row number, to the millisecond.
#[must_use]
pub fn moment_of(number: i64) -> Timestamp {
    Timestamp::from_micros((number >> 12).saturating_mul(1000))
}

fn compose(number: u64, random: u64) -> Uuid {
    let high = (number >> 12 << 16) | 0x7000 | (number & 0xfff);
    let low = (random >> 2) | (1 << 63);
    Uuid::from_u128((u128::from(high) << 64) | u128::from(low))
}

/// Unpredictable bytes from the system call, which needs neither `/dev/urandom`
/// nor a file descriptor.
///
/// # Panics
/// When the operating system gives no randomness, without which nothing here
/// is safe.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if fill(&mut bytes).is_err() {
        // A kernel older than 3.17, or a filter of system calls, has no such call; the library knows other ways.
        #[expect(clippy::expect_used, reason = "without randomness no key or id is safe")]
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    }
    bytes
}

/// Up to 256 bytes come whole, more may come in pieces (`getrandom(2)`).
fn fill(mut bytes: &mut [u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(got) => bytes = &mut bytes[got..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes as people write them: two lower-case hexadecimal digits each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn random_u64() -> u64 {
    u64::from_ne_bytes(random_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

    #[test]
    fn ids_increase_even_when_the_clock_goes_back() {
        let now = Arc::new(AtomicI64::new(2_000_000_000_000_000));
        let shared = now.clone();
        let clock = Clock::from_fn(move || Timestamp::from_micros(shared.load(Ordering::Relaxed)));
        let ids = IdSource::new(clock, 0);
        let mut last = row_number(ids.next());
        for step in 0..10_000 {
            if step == 5_000 {
                now.store(1_000_000_000_000_000, Ordering::Relaxed);
            }
            let next = row_number(ids.next());
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn random_bytes_fill_what_is_asked_for() {
        let (one, other) = (random_bytes::<1024>(), random_bytes::<1024>());
        assert_ne!(one, other);
        assert!(one.chunks(32).all(|piece| piece.iter().any(|byte| *byte != 0)));
        assert_eq!(random_bytes::<0>(), [0; 0]);
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_carries_its_number() {
        let id = IdSource::new(Clock::system(), 0).next();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        let number = u64::try_from(row_number(id)).expect("positive");
        assert_eq!(row_number(compose(number, 1)), row_number(id));
    }

    #[test]
    fn a_source_continues_after_the_greatest_number_in_use() {
        let far = row_number(IdSource::new(Clock::system(), 0).next()) + (1 << 40);
        assert_eq!(row_number(IdSource::new(Clock::system(), far).next()), far + 1);
    }
}
