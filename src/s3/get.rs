//! Fetching an object, piece by piece.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{CONTENT_RANGE, ETAG, HeaderValue, IF_MATCH, RANGE};
use hyper::{Method, StatusCode};

use super::{Bucket, Error, Inner, PIECE, Whole, text};
use crate::outbound::Fetched;

impl Bucket {
    /// Fetches an object into a file, which only its owner can read and which is
    /// on the disk when this returns. What was in the file before is lost; after
    /// an error, or when the future is dropped, there is no file. Gives the size.
    ///
    /// # Errors
    /// Why it is not there in whole.
    pub async fn get(&self, name: &str, into: &Path) -> Result<u64, Error> {
        self.0.get(name, into).await
    }
}

impl Inner {
    async fn get(&self, name: &str, path: &Path) -> Result<u64, Error> {
        let key = self.key(name)?;
        let whole = self.about(name, &key).await?;
        let mut target = Target::create(path).await?;
        let mut at = 0;
        while at < whole.bytes {
            let piece = self.piece(name, &key, at, &whole).await?;
            let (from, length) = (at, piece.len() as u64);
            target.work(move |file| file.write_all_at(&piece, from)).await?;
            at += length;
        }
        target.work(File::sync_all).await?;
        target.keep();
        Ok(whole.bytes)
    }

    /// The bytes from a place on, at most [`PIECE`].
    async fn piece(&self, name: &str, key: &str, at: u64, whole: &Whole) -> Result<bytes::Bytes, Error> {
        let last = (at + PIECE as u64).min(whole.bytes) - 1;
        let what = format!("fetching from byte {at} on");
        let mut ask = self.ask(&what, name, Method::GET);
        ask.bytes = PIECE;
        let strange = |_| Error::Strange("an ETag that is none".into());
        ask.headers.insert(IF_MATCH, HeaderValue::from_str(&whole.etag).map_err(strange)?);
        ask.headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={at}-{last}")).map_err(strange)?);
        let action = self.bucket.get_object(Some(&self.credentials), key);
        self.send(&ask, &action, |answer| {
            // Not every server looks at If-Match.
            if text(&answer.headers, &ETAG) != Some(&whole.etag) || total(answer, at)? != whole.bytes {
                return Err(Error::Replaced(name.to_owned()));
            }
            let wanted = last - at + 1;
            if answer.body.len() as u64 == wanted { Ok(answer.body.clone()) } else { Err(Error::Lost) }
        })
        .await
    }
}

/// How long the object is of which an answer has the bytes from a place on.
pub(super) fn total(answer: &Fetched, at: u64) -> Result<u64, Error> {
    // Somebody who does not know ranges sends everything.
    if answer.status == StatusCode::OK && at == 0 {
        return Ok(answer.body.len() as u64);
    }
    let range = text(&answer.headers, &CONTENT_RANGE).unwrap_or_default();
    let known = parse_range(range).filter(|(from, _)| *from == at && answer.status == StatusCode::PARTIAL_CONTENT);
    known.map(|(_, total)| total).ok_or_else(|| Error::Strange("it does not send the range that was asked for".into()))
}

/// Where `bytes 0-99/1234` begins, and how long the whole is.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, total): (u64, u64, u64) = (from.parse().ok()?, to.parse().ok()?, total.parse().ok()?);
    (from <= to && to < total).then_some((from, total))
}

/// The file that is written, gone again unless it is kept.
struct Target {
    file: Arc<File>,
    path: PathBuf,
    kept: bool,
}

impl Target {
    async fn create(path: &Path) -> Result<Self, Error> {
        let at = path.to_owned();
        let create = move || {
            // A file of that name may be readable for others.
            match std::fs::remove_file(&at) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)
        };
        let file = blocking(create).await.map_err(Error::file(path))?;
        Ok(Self { file: Arc::new(file), path: path.to_owned(), kept: false })
    }

    async fn work(&self, work: impl FnOnce(&File) -> io::Result<()> + Send + 'static) -> Result<(), Error> {
        let file = self.file.clone();
        blocking(move || work(&file)).await.map_err(Error::file(&self.path))
    }

    fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Works on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 0-0/1"), Some((0, 1)));
        assert_eq!(parse_range("bytes 5-9/1234"), Some((5, 1234)));
        for wrong in ["", "bytes */0", "bytes 0-0/*", "bytes 5-4/10", "bytes 0-10/10", "items 0-0/1", "bytes 0-0/-1"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_none(text in "(bytes )?[0-9*/ -]{0,50}") {
            if let Some((from, total)) = parse_range(&text) {
                prop_assert!(from < total);
            }
        }
    }
}
