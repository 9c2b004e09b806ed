//! Sending a file: in one request, or in parts of which nobody sees anything
//! before all are there.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use rusty_s3::actions::{CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload};
use tokio::runtime::Handle;

use super::get::blocking;
use super::{Ask, Bucket, Error, Inner, PIECE, answer, empty, text};
use crate::clock::system_now;
use crate::outbound::Fetched;

/// How many parts S3 takes, and how large the whole may be.
const PARTS: u64 = 10_000;
const LARGEST: u64 = 5 << 40;
/// Putting the parts together can take a server minutes in which it says nothing.
const COMPLETE: Duration = Duration::from_secs(300);

impl Bucket {
    /// Sends a file. Under its name there is then all of it or what was there
    /// before; nothing half sent can be seen. When it is given up or the future
    /// is dropped, the server is told to forget the parts.
    ///
    /// # Errors
    /// Why it may not be there.
    pub async fn put(&self, name: &str, file: &Path) -> Result<(), Error> {
        self.send_file(name, file).await
    }

    async fn send_file(&self, name: &str, path: &Path) -> Result<(), Error> {
        let key = self.0.key(name)?;
        let source = Source::open(path).await?;
        let part = part_bytes(source.bytes);
        if source.bytes <= part as u64 {
            self.0.put_whole(name, &key, &source).await?;
        } else {
            let upload = Upload::begin(self.clone(), name, key.clone()).await?;
            match upload.send(&source, part).await {
                Ok(()) => upload.forget(),
                Err(error) => {
                    upload.abort().await;
                    return Err(error);
                }
            }
        }
        let found = self.0.about(name, &key).await?.bytes;
        if found == source.bytes {
            return Ok(());
        }
        self.0.remove(name).await?;
        Err(Error::WrongSize { name: name.to_owned(), found, sent: source.bytes })
    }
}

impl Inner {
    async fn put_whole(&self, name: &str, key: &str, source: &Source) -> Result<(), Error> {
        let body = source.read(0, source.bytes).await?;
        let ask = with_body(self.ask("sending", name, Method::PUT), body, "application/octet-stream");
        let action = self.bucket.put_object(Some(&self.credentials), key);
        self.send(&ask, &action, |_| Ok(())).await
    }
}

fn with_body<'a>(mut ask: Ask<'a>, body: Bytes, kind: &'static str) -> Ask<'a> {
    if body.is_empty() {
        empty(&mut ask);
    }
    ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ask { body, ..ask }
}

/// How large parts must be so that there are not too many.
fn part_bytes(whole: u64) -> usize {
    let least = whole.div_ceil(PARTS).next_multiple_of(1 << 20);
    usize::try_from(least).unwrap_or(usize::MAX).max(PIECE)
}

/// The file that is sent.
struct Source {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
}

impl Source {
    async fn open(path: &Path) -> Result<Self, Error> {
        let at = path.to_owned();
        let open = move || {
            let file = File::open(at)?;
            let bytes = file.metadata()?.len();
            let too_large = || std::io::Error::other("it is larger than the 5 TiB that S3 takes");
            if bytes > LARGEST { Err(too_large()) } else { Ok((Arc::new(file), bytes)) }
        };
        let (file, bytes) = blocking(open).await.map_err(Error::file(path))?;
        Ok(Self { file, path: path.to_owned(), bytes })
    }

    async fn read(&self, at: u64, length: u64) -> Result<Bytes, Error> {
        let file = self.file.clone();
        let read = move || {
            let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
            file.read_exact_at(&mut bytes, at)?;
            Ok(bytes.into())
        };
        blocking(read).await.map_err(Error::file(&self.path))
    }
}

/// An upload in parts. Whatever ends it before it is complete tells the server
/// to forget it; parts that it keeps cost room.
struct Upload {
    bucket: Bucket,
    name: String,
    key: String,
    id: String,
    open: bool,
}

impl Upload {
    async fn begin(bucket: Bucket, name: &str, key: String) -> Result<Self, Error> {
        let inner = &bucket.0;
        let ask = with_body(inner.ask("beginning", name, Method::POST), Bytes::new(), "application/octet-stream");
        let action = inner.bucket.create_multipart_upload(Some(&inner.credentials), &key);
        let begun = inner.send(&ask, &action, |answer: &Fetched| {
            let begun = answer::as_amazons(&answer.body).map(|text| CreateMultipartUpload::parse_response(&text));
            let id = begun.and_then(Result::ok).map(|begun| begun.upload_id().to_owned());
            id.filter(|id| !id.is_empty()).ok_or_else(|| Error::Strange("it names no upload".into()))
        });
        let id = begun.await?;
        Ok(Self { name: name.to_owned(), key, id, open: true, bucket })
    }

    async fn send(&self, source: &Source, part: usize) -> Result<(), Error> {
        let mut etags = Vec::new();
        let (mut at, mut number) = (0, 1);
        while at < source.bytes {
            let length = (part as u64).min(source.bytes - at);
            etags.push(self.part(number, source.read(at, length).await?).await?);
            (at, number) = (at + length, number + 1);
        }
        match self.complete(&etags).await {
            // An earlier try has completed it and its answer was lost.
            Err(Error::NoUpload(reason)) => {
                let there = self.bucket.0.about(&self.name, &self.key).await;
                if there.is_ok_and(|whole| whole.bytes == source.bytes) { Ok(()) } else { Err(Error::NoUpload(reason)) }
            }
            outcome => outcome,
        }
    }

    /// Sends one part; gives what the server calls it.
    async fn part(&self, number: u16, bytes: Bytes) -> Result<String, Error> {
        let inner = &self.bucket.0;
        let what = format!("sending part {number}");
        let ask = with_body(inner.ask(&what, &self.name, Method::PUT), bytes, "application/octet-stream");
        let action = inner.bucket.upload_part(Some(&inner.credentials), &self.key, number, &self.id);
        let etag = |answer: &Fetched| {
            let etag = text(&answer.headers, &ETAG).map(str::to_owned);
            etag.ok_or_else(|| Error::Strange("a part without an ETag".into()))
        };
        inner.send(&ask, &action, etag).await
    }

    async fn complete(&self, etags: &[String]) -> Result<(), Error> {
        let inner = &self.bucket.0;
        let complete = || {
            let etags = etags.iter().map(String::as_str);
            CompleteMultipartUpload::new(&inner.bucket, Some(&inner.credentials), &self.key, &self.id, etags)
        };
        let ask = inner.ask("putting the parts together", &self.name, Method::POST);
        let mut ask = with_body(ask, complete().body().into(), "application/xml");
        ask.patience = ask.patience.max(COMPLETE);
        let read = |answer: &Fetched| {
            if let Some(error) = answer::hidden(&answer.headers, &answer.body, &self.name, system_now()) {
                return Err(error);
            }
            let read = answer::as_amazons(&answer.body).map(|text| CompleteMultipartUploadResponse::parse(&text));
            let is_done = read.is_some_and(|read| read.is_ok());
            if is_done { Ok(()) } else { Err(Error::Strange("it does not say that the parts are put together".into())) }
        };
        inner.send(&ask, &complete(), read).await
    }

    fn forget(mut self) {
        self.open = false;
    }

    async fn abort(mut self) {
        self.open = false;
        abort(&self.bucket, &self.name, &self.key, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.open, Handle::try_current()) else { return };
        let take = std::mem::take::<String>;
        let (bucket, name, key, id) =
            (self.bucket.clone(), take(&mut self.name), take(&mut self.key), take(&mut self.id));
        runtime.spawn(async move { abort(&bucket, &name, &key, &id).await });
    }
}

/// Asks twice and no more: whoever waits wants to hear why the upload failed.
async fn abort(bucket: &Bucket, name: &str, key: &str, id: &str) {
    let inner = &bucket.0;
    let action = inner.bucket.abort_multipart_upload(Some(&inner.credentials), key, id);
    let ask = Ask { tries: 2, ..inner.ask("forgetting an upload", name, Method::DELETE) };
    match inner.send(&ask, &action, |_| Ok(())).await {
        Ok(()) | Err(Error::NoUpload(_)) => {}
        Err(error) => {
            let place = &*inner.place;
            tracing::warn!(name, %error, place, "parts of an upload that failed are left; the bucket's rules may end it");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_large_enough_and_not_too_many(whole in 0..=LARGEST) {
            let part = part_bytes(whole) as u64;
            prop_assert!(whole.div_ceil(part) <= PARTS);
            prop_assert!((5 << 20..=5 << 30).contains(&part));
        }
    }

    #[test]
    fn parts_stay_small_as_long_as_they_can() {
        assert_eq!(part_bytes(160_000_000_000), 16 << 20);
        assert_eq!(part_bytes(LARGEST), 525 << 20);
    }
}
