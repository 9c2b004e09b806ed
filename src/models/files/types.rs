//! What a file is.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id;

/// Bytes of every piece of a file but the last.
pub(in crate::models) const CHUNK: usize = 256 << 10;

/// How ids of files begin.
const PREFIX: &str = "file-";

/// A file's id; its row number is inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) struct FileId(pub Uuid);

impl FileId {
    /// The row number.
    pub(in crate::models) fn no(self) -> i64 {
        id::row_number(self.0)
    }

    /// Reads an id as a client sends it.
    pub(in crate::models) fn parse(text: &str) -> Option<Self> {
        parse(PREFIX, text).map(Self)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.simple())
    }
}

/// An id that is a prefix and 32 hexadecimal digits.
pub(in crate::models) fn parse(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix).filter(|digits| digits.len() == 32)?;
    Uuid::try_parse(digits).ok()
}

/// What a file is for. Only the first two mean something to this service.
pub(in crate::models) const PURPOSES: [&str; 7] =
    [BATCH, BATCH_OUTPUT, "user_data", "assistants", "vision", "fine-tune", "evals"];
/// The input of a batch.
pub(in crate::models) const BATCH: &str = "batch";
/// What a batch has written.
pub(in crate::models) const BATCH_OUTPUT: &str = "batch_output";

/// The shortest and the longest time that a client may have a file kept.
pub(in crate::models) const KEEP: std::ops::RangeInclusive<u64> = 3_600..=30 * 86_400;

/// How long a batch's output is kept when nobody says.
pub(in crate::models) const KEEP_OUTPUT: Duration = Duration::from_secs(30 * 86_400);

/// A file that is to be.
#[derive(Clone, Debug)]
pub(in crate::models) struct NewFile {
    pub tenant: i64,
    pub name: String,
    pub purpose: &'static str,
    /// How long it is kept; for ever when not set.
    pub keep: Option<Duration>,
}

/// A file that is whole.
#[derive(Clone, Debug)]
pub(in crate::models) struct FileRow {
    pub id: FileId,
    pub name: String,
    pub purpose: String,
    pub bytes: u64,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// The place from where a list goes on, and in which direction.
#[derive(Clone, Debug)]
pub(in crate::models) struct ListRequest {
    pub after: Option<FileId>,
    pub limit: usize,
    pub newest_first: bool,
    pub purpose: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = FileId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(FileId::parse(&id.to_string()), Some(id));
        for wrong in ["", "file-", "file-1", "batch_01900000000070008000000000000001"] {
            assert_eq!(FileId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(FileId::parse(&format!("file-{}", id.0)), None, "with hyphens");
    }
}
