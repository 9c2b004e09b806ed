//! A door for made-up input to what is private here. Compiled for the fuzz
//! program only.

use super::archive;
use super::keys::Keys;
use super::name::Name;

/// Reads a backup as a restore does. `packed`: the bytes are those of a tar,
/// which only has to be packed. Whether it was taken for one.
#[must_use]
pub fn backup(bytes: &[u8], packed: bool) -> bool {
    let packed = if packed { zstd::encode_all(bytes, 1).unwrap_or_default() } else { bytes.to_vec() };
    archive::read(&packed[..], &Keys::default(), None).is_ok()
}

/// A backup's name; as it would be written, if it is one.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    text.parse::<Name>().ok().map(|name| name.to_string())
}
