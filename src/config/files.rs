//! `[models]`: files for language models, and batches of calls to them.

use super::reader::Reader;
use super::sections::key;
use super::setting::Bytes;

/// What of `[models]` concerns files and batches.
#[derive(Clone, Copy, Debug)]
pub struct FilesSection {
    /// Bytes that a file may have.
    pub file_bytes: u64,
    /// Bytes that all files of a tenant may have together.
    pub bytes_per_tenant: u64,
    /// Calls of one batch at the same time.
    pub batch_concurrency: usize,
}

impl FilesSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let file = key("models.file_bytes", "Bytes that a file of /v1/files may have.");
        let tenant = key("models.files_bytes_per_tenant", "Bytes that all files of a tenant may have together.");
        let concurrency = key("models.batch_concurrency", "Calls of one batch to language models at the same time.");
        let section = Self {
            file_bytes: reader.value(file, Bytes(100 << 20)).0,
            bytes_per_tenant: reader.value(tenant, Bytes(1 << 30)).0,
            batch_concurrency: reader.value(concurrency, 4),
        };
        if !(1..=8 << 30).contains(&section.file_bytes) {
            reader.fault_at_key("models.file_bytes", "models.file_bytes must be from 1 byte to 8GiB".into());
        }
        if !(1..=256).contains(&section.batch_concurrency) {
            reader.fault_at_key("models.batch_concurrency", "models.batch_concurrency must be from 1 to 256".into());
        }
        section
    }
}
