//! Language models in the interface that OpenAI's clients speak. `routes` and its
//! neighbours take what clients ask, `gateway` makes the call, `estimate`, `price`
//! and `usage` say what it may cost and did cost; `responses`, `files` and
//! `batches` are built on it.

mod answer;
mod audio;
pub mod batches;
mod bound;
mod embeddings;
pub mod estimate;
pub mod files;
pub mod form;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
pub mod headers;
mod json;
mod lenient;
mod list;
mod payer;
pub mod price;
pub mod responses;
mod routes;
mod sse;
#[cfg(test)]
mod testing;
pub mod tokens;
mod types;
pub mod usage;

pub use bound::{Bound, Members, Writer};
pub use form::Form;
pub use gateway::{Gateway, OpenError, Parts};
pub use headers::headers;
pub use payer::payer;
pub use routes::routes;
pub use types::{Answer, Body, Call, Endpoint, Receipt, Reply, Streamed};
