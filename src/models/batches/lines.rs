//! The lines of a file, which is never in memory as a whole.

use bytes::{Bytes, BytesMut};

use super::types::Place;
use crate::db;
use crate::models::files::{CHUNK, Files};

/// Bytes that a line may have, as many as a request of its kind.
pub(super) const LONGEST: usize = 32 << 20;

/// A line as it stands there, without what ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawLine {
    pub place: Place,
    pub text: Bytes,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLine {
    /// It is longer than a line may be.
    #[error("line {0} is longer than {LONGEST} bytes")]
    TooLong(u64),
    /// The file could not be read.
    #[error(transparent)]
    Database(#[from] db::Error),
}

/// Reads line by line.
pub(super) struct Lines {
    files: Files,
    file: i64,
    next: Place,
    /// Read, and not given out yet; how much of it has no end of a line.
    waiting: BytesMut,
    searched: usize,
    /// The next piece; `None` after the last.
    seq: Option<u64>,
    skip: usize,
}

impl Lines {
    /// The lines from a place on, where one begins.
    pub(super) fn from(files: Files, file: i64, next: Place) -> Self {
        let chunk = CHUNK as u64;
        let skip = usize::try_from(next.start % chunk).unwrap_or(0);
        Self { files, file, next, waiting: BytesMut::new(), searched: 0, seq: Some(next.start / chunk), skip }
    }

    /// Where the next line begins.
    pub(super) fn place(&self) -> Place {
        self.next
    }

    /// The next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// See [`NoLine`].
    pub(super) async fn next(&mut self) -> Result<Option<RawLine>, NoLine> {
        loop {
            let Some(line) = self.any().await? else { return Ok(None) };
            if !line.text.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    async fn any(&mut self) -> Result<Option<RawLine>, NoLine> {
        loop {
            let end = self.waiting[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| end + self.searched) {
                return Ok(Some(self.take(end, 1)));
            }
            self.searched = self.waiting.len();
            if self.searched > LONGEST {
                return Err(NoLine::TooLong(self.next.line));
            }
            if !self.fill().await? {
                let rest = self.waiting.len();
                return Ok((rest > 0).then(|| self.take(rest, 0)));
            }
        }
    }

    fn take(&mut self, end: usize, mark: usize) -> RawLine {
        let text = self.waiting.split_to(end + mark).freeze().slice(..end);
        let line = RawLine { place: self.next, text };
        self.next = Place { line: self.next.line + 1, start: self.next.start + (end + mark) as u64 };
        self.searched = 0;
        line
    }

    async fn fill(&mut self) -> Result<bool, db::Error> {
        let Some(seq) = self.seq else { return Ok(false) };
        let piece = self.files.chunk(self.file, seq).await?;
        let Some(piece) = piece else {
            self.seq = None;
            return Ok(false);
        };
        self.seq = Some(seq + 1);
        self.waiting.extend_from_slice(piece.get(std::mem::take(&mut self.skip)..).unwrap_or_default());
        Ok(true)
    }
}

/// A part of a file.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn part(files: &Files, file: i64, start: u64, length: u64) -> Result<Bytes, db::Error> {
    let chunk = CHUNK as u64;
    let mut out = BytesMut::new();
    let mut at = start;
    while at < start + length {
        let Some(piece) = files.chunk(file, at / chunk).await? else { break };
        let from = usize::try_from(at % chunk).unwrap_or(0);
        let most = usize::try_from(start + length - at).unwrap_or(usize::MAX);
        let found = piece.get(from..).unwrap_or_default();
        let found = &found[..found.len().min(most)];
        if found.is_empty() {
            break;
        }
        out.extend_from_slice(found);
        at += found.len() as u64;
    }
    Ok(out.freeze())
}
