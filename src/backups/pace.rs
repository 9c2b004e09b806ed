//! Reading at half speed: whoever works beside a service lets the others come
//! first.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Bytes after which there is a pause.
const EVERY: usize = 1 << 20;
/// A pause is not longer, whatever made the work take long.
pub(super) const LONGEST: Duration = Duration::from_millis(250);

/// How fast is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Others work on this machine.
    Half,
    /// Somebody waits for it.
    Full,
}

/// Reads, and pauses for as long as the work on what was read has taken.
pub(super) struct Paced<R> {
    inner: R,
    pace: Pace,
    since: Instant,
    bytes: usize,
}

impl<R> Paced<R> {
    pub(super) fn new(inner: R, pace: Pace) -> Self {
        Self { inner, pace, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.pace == Pace::Half && self.bytes >= EVERY {
            std::thread::sleep(self.since.elapsed().min(LONGEST));
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        let read = self.inner.read(into)?;
        self.bytes += read;
        Ok(read)
    }
}
