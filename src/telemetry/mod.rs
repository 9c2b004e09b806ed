//! Logs and the metrics registry. Knows no feature: each registers its own.

pub mod journal;
pub mod log;
mod process;

pub use process::ProcessMetrics;
