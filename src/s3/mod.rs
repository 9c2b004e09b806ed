//! Files in a bucket of S3-compatible storage: sent, fetched, listed, removed.
//! Transport only; which files, and for how long, is decided above.
//!
//! Every request is a signed URL, good for some minutes for whoever has it. So
//! URLs are never logged and in no error. See docs/decisions/0035.

mod answer;
mod error;
mod get;
mod put;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Credentials, S3Action, UrlStyle};

pub use error::{Error, Reason};

use crate::clock::{Timestamp, system_now};
use crate::config::S3Section;
use crate::outbound::{BuildError, Fetched, Limits, Outbound, Request};

/// How long a signature is good for. A server looks when a request begins.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// How often a request is made before it has failed.
const TRIES: u32 = 5;
/// Before the second try; twice as long before each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// What is sent or fetched at a time, so that memory has a bound.
const PIECE: usize = 16 << 20;
/// Bytes of an answer that is no object's.
const ANSWER_BYTES: usize = 4 << 20;
/// A line slower than this many bytes a second is too slow.
const SLOWEST: u64 = 32 << 10;
/// What a page of a list has, and how many pages are read.
const PAGE: usize = 1000;
const PAGES: usize = 100;

/// Why there is no way to the bucket.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The secret is not set or cannot be read.
    #[error("backup.s3_secret_key: {0}")]
    Secret(String),
    /// Endpoint and bucket do not make a URL.
    #[error("backup.s3_endpoint: {0}")]
    Endpoint(rusty_s3::BucketError),
    /// The file of certificate authorities cannot be used.
    #[error(transparent)]
    Authorities(#[from] BuildError),
}

/// What lies in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name, without the prefix.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was put there, by the server's clock.
    pub modified: Timestamp,
}

/// A bucket, or a folder in one. Clones share it.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    /// Before every name: nothing, or folders with a `/` at the end.
    prefix: String,
    outbound: Outbound,
    patience: Duration,
    /// For people.
    place: Arc<str>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({})", self.0.place)
    }
}

impl Bucket {
    /// The bucket of a configuration, by the service's own way out. Nothing is
    /// asked yet.
    ///
    /// # Errors
    /// When the secret or the file of authorities cannot be read.
    pub fn new(section: &S3Section, outbound: &Outbound) -> Result<Self, SettingsError> {
        let secret = section.secret_key.resolve().map_err(SettingsError::Secret)?;
        let secret = secret.ok_or_else(|| SettingsError::Secret("it is not set".into()))?;
        let style = if section.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let (name, region) = (section.bucket.clone(), section.region.clone());
        let bucket = rusty_s3::Bucket::new(section.endpoint.clone(), style, name, region);
        let bucket = bucket.map_err(SettingsError::Endpoint)?;
        let outbound = match &section.ca_file {
            Some(file) => outbound.trusting("backup.s3_ca_file", file)?,
            None => outbound.clone(),
        };
        let url = &section.endpoint;
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        let (bucket_name, prefix) = (&section.bucket, section.prefix.trim_end_matches('/'));
        let folder = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let place = format!("s3://{bucket_name}{folder} at {}{port}", url.host_str().unwrap_or_default());
        Ok(Self(Arc::new(Inner {
            outbound: outbound.allowing(bucket.base_url()),
            credentials: Credentials::new(section.access_key.clone(), secret),
            prefix: section.prefix.clone(),
            patience: section.patience,
            place: place.into(),
            bucket,
        })))
    }

    /// For people: `s3://bucket/prefix at host`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.place.to_string()
    }

    /// What lies there, by name. Folders below the prefix are left out.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn list(&self) -> Result<Vec<Object>, Error> {
        self.0.list().await
    }

    /// Removes an object. That there is none is no error.
    ///
    /// # Errors
    /// Why it may still be there.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.0.remove(name).await
    }
}

/// What an object is, before its bytes are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Whole {
    bytes: u64,
    /// What tells it from one that replaces it; empty where it has no bytes.
    etag: String,
}

/// A request but for its URL, which is signed anew for every try.
struct Ask<'a> {
    /// For people, such as "sending part 3".
    what: &'a str,
    /// The name of the object, for errors.
    name: &'a str,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    /// What the answer may have.
    bytes: usize,
    /// For how long nothing may move.
    patience: Duration,
    tries: u32,
}

impl Inner {
    fn ask<'a>(&self, what: &'a str, name: &'a str, method: Method) -> Ask<'a> {
        let mut headers = HeaderMap::new();
        // What was stored is wanted as it is.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let (body, bytes, patience) = (Bytes::new(), ANSWER_BYTES, self.patience);
        Ask { what, name, method, headers, body, bytes, patience, tries: TRIES }
    }

    /// The key of a name. Others could lead out of the prefix, or to the bucket
    /// itself.
    fn key(&self, name: &str) -> Result<String, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain);
        if fits { Ok(format!("{}{name}", self.prefix)) } else { Err(Error::Name(name.to_owned())) }
    }

    /// Asks until there is an answer that `read` takes, or no more use in it.
    async fn send<'a, A: S3Action<'a>, T>(
        &self,
        ask: &Ask<'_>,
        action: &A,
        read: impl Fn(&Fetched) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let error = match self.once(ask, &sign(action)).await.and_then(|answer| read(&answer)) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            if tries >= ask.tries || !error.is_temporary() {
                return Err(error);
            }
            let wait = error.after().unwrap_or_default().max(pause);
            tracing::info!(what = ask.what, %error, place = &*self.place, tries, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            (pause, tries) = (pause * 2, tries + 1);
        }
    }

    async fn once(&self, ask: &Ask<'_>, url: &str) -> Result<Fetched, Error> {
        let bytes = u64::try_from(ask.body.len().max(ask.bytes)).unwrap_or(u64::MAX);
        let total = ask.patience + Duration::from_secs(bytes / SLOWEST);
        let limits = Limits { bytes: ask.bytes, cut: false, first_byte: total, total, redirects: 0 };
        let request = Request::of(ask.method.clone(), url, ask.headers.clone(), ask.body.clone());
        let answer = self.outbound.send(request.moving(ask.patience), &limits).await?;
        // Of an object without a byte there is no first one.
        if answer.status.is_success() || answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(answer);
        }
        Err(answer::fault(answer.status, &answer.headers, &answer.body, ask.name, system_now()))
    }

    async fn list(&self) -> Result<Vec<Object>, Error> {
        let mut objects = Vec::new();
        let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
        action.with_max_keys(PAGE);
        action.with_delimiter("/");
        action.with_prefix(&*self.prefix);
        let ask = self.ask("listing", "", Method::GET);
        for _ in 0..PAGES {
            let read = |answer: &Fetched| {
                let page = answer::as_amazons(&answer.body).and_then(|text| ListObjectsV2::parse_response(&text).ok());
                page.ok_or_else(|| Error::Strange("its list cannot be read".into()))
            };
            let page = self.send(&ask, &action, read).await?;
            for found in page.contents {
                // A folder that somebody made by hand is an object too.
                let Some(name) = found.key.strip_prefix(&self.prefix).filter(|name| !name.is_empty()) else { continue };
                let modified = found.last_modified.as_deref().and_then(Timestamp::parse);
                let (Some(bytes), Some(modified)) = (found.size, modified) else {
                    return Err(Error::Strange("its list is without sizes or times".into()));
                };
                objects.push(Object { name: name.to_owned(), bytes, modified });
            }
            let Some(token) = page.next_continuation_token else { return Ok(objects) };
            action.with_continuation_token(token);
        }
        Err(Error::Strange(format!("there are more than {} objects", PAGE * PAGES)))
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let key = self.key(name)?;
        let action = self.bucket.delete_object(Some(&self.credentials), &key);
        match self.send(&self.ask("removing", name, Method::DELETE), &action, |_| Ok(())).await {
            Err(Error::NoObject(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Looks at an object: by a request for its first byte, because the answer to
    /// HEAD has no body that would say why not.
    async fn about(&self, name: &str, key: &str) -> Result<Whole, Error> {
        let mut ask = self.ask("looking at it", name, Method::GET);
        ask.headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        let action = self.bucket.get_object(Some(&self.credentials), key);
        self.send(&ask, &action, |answer| {
            let etag = text(&answer.headers, &ETAG).unwrap_or_default().to_owned();
            if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(Whole { bytes: 0, etag: String::new() });
            }
            let bytes = get::total(answer, 0)?;
            if etag.is_empty() { Err(Error::Strange("no ETag".into())) } else { Ok(Whole { bytes, etag }) }
        })
        .await
    }
}

/// A URL for the action that is good from now on.
fn sign<'a>(action: &impl S3Action<'a>) -> String {
    let now = jiff::Timestamp::from_microsecond(system_now().micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    action.sign_with_time(SIGNED_FOR, &now).into()
}

/// Says how long the body is where it is empty, which some servers want to be told.
fn empty(ask: &mut Ask<'_>) {
    ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
