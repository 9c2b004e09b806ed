//! Certificates as an administrator has them: the real binary against pebble,
//! Let's Encrypt's own test server, and against caddy. Some good nonces are
//! refused in every test, and validations fail at random in the main ones.
//!
//! Needs Debian's packages `pebble`, `caddy` and `curl`, and the right to bind
//! ports 80 and 443 for the tests with caddy.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]

#[path = "../support/mod.rs"]
mod support;

mod bench;
