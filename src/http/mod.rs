//! What all routes share and that knows no feature: problems, request context
//! and access log, JSON bodies, the route table, pages, idempotency, SSE frames.

pub mod idempotency;
mod json;
pub mod page;
mod problem;
pub mod query;
mod request;
mod route;
pub mod sse;

pub use json::{BodyLimits, Json};
pub use problem::{FieldError, Problem};
pub use request::{HttpMetrics, LogFields, observe};
pub use route::{Authorise, Guarded, Open, Policy, RouteInfo, Routes};
