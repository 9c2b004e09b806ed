//! The harness of the black-box tests: it starts the real binary (or the
//! testbed) on a free port with a data folder of its own, and when a test is
//! over it stops it and looks whether what is on disk is whole and nothing is
//! stuck.
//!
//! Rules: nothing sleeps to let something happen; a test waits for an event, a
//! log line or a condition, each with a generous deadline. Tests share nothing
//! and run in any order.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(unreachable_pub, reason = "to the test crates this is a library")]
#![allow(unused_imports, reason = "each test crate uses a part of it")]

pub mod acme;
pub mod cli;
pub mod client;
pub mod contract;
pub mod raw;
pub mod record;
pub mod s3;
pub mod server;
pub mod sse;
pub mod tls;
pub mod upstream;

use std::time::{Duration, Instant};

pub use client::{Answer, Client};
pub use record::Record;
pub use server::{ADMIN_KEY, Gate, HASH_SECRET, Key, Server, Setup, long_enough};
pub use sse::{Frame, Stream};
pub use upstream::{Fault, Gate as UpstreamGate, Price, Script, Shown, Upstream, Usage};

/// How long anything may take before a test gives up; far more than it needs,
/// so that a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until `look` finds something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
