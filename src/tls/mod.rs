//! Certificates: which one is shown to whom, where it comes from, and when it
//! is replaced. Listening is `serve`'s; this room only says what is shown.

pub mod acme;
mod challenge;
mod resolver;

pub use challenge::HttpChallenges;
pub use resolver::{Certificates, Shown, Source};
