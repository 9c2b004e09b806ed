//! Buckets, against a server that speaks S3: moto, behind a door that looks at
//! signatures with Amazon's own library, and a proxy that fails on demand.
//!
//! Needs `make test-deps` (or `tests/s3/install`).

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]

#[path = "../support/mod.rs"]
mod support;

mod failing;
mod memory;
mod service;
mod working;

use std::path::PathBuf;
use std::time::Duration;

use agentd::config::{Origin, S3Section, Secret};
use agentd::outbound::{Options, Outbound};
use agentd::s3::Bucket;
use support::s3::{ACCESS_KEY, Proxy, REGION, S3, SECRET_KEY};
use tempfile::TempDir;

/// What is sent at a time; larger files go in parts.
const PIECE: usize = 16 << 20;

/// A bucket of one test's own, behind a proxy of its own.
struct Bench {
    proxy: Proxy,
    section: S3Section,
    folder: TempDir,
}

impl Bench {
    #[track_caller]
    fn new(name: &str) -> Self {
        S3::shared().make(name);
        let proxy = Proxy::start();
        let section = section(&proxy.endpoint(), name);
        Self { proxy, section, folder: TempDir::new().expect("a folder") }
    }

    fn bucket(&self) -> Bucket {
        bucket(&self.section)
    }

    /// A file with bytes that differ from place to place.
    fn file(&self, bytes: usize) -> PathBuf {
        let path = self.path(&format!("of-{bytes}"));
        std::fs::write(&path, made_up(bytes)).expect("written");
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the bucket has under a name, past the proxy.
    #[track_caller]
    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        S3::shared().read(&self.section.bucket, &format!("{}{name}", self.section.prefix))
    }

    #[track_caller]
    fn unfinished(&self) -> usize {
        S3::shared().unfinished(&self.section.bucket)
    }
}

fn section(endpoint: &str, bucket: &str) -> S3Section {
    S3Section {
        endpoint: endpoint.parse().expect("a URL"),
        bucket: bucket.into(),
        prefix: "agentd/here/".into(),
        region: REGION.into(),
        access_key: ACCESS_KEY.into(),
        secret_key: Secret::Text(SECRET_KEY.into(), Origin::Default),
        path_style: true,
        ca_file: None,
        // On a busy machine the server is slow too.
        patience: Duration::from_secs(20),
    }
}

fn bucket(section: &S3Section) -> Bucket {
    let outbound = Outbound::new(Options::default(), &prometheus::Registry::new()).expect("a way out");
    Bucket::new(section, &outbound).expect("a bucket")
}

fn made_up(bytes: usize) -> Vec<u8> {
    made_up_of(88_172_645_463_325_252, bytes)
}

/// Others for every seed but 0.
fn made_up_of(mut state: u64, bytes: usize) -> Vec<u8> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut made: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next()).collect();
    made.truncate(bytes);
    made
}
