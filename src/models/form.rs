//! A multipart form (RFC 7578), as files are sent.

use bytes::Bytes;

/// The parts of a form, in order.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Each of them.
    pub parts: Vec<Part>,
}

impl Form {
    /// e
    pub fn encode(&self, _: &str) -> (String, Bytes) {
        Default::default()
    }
}
/// One of them.
#[derive(Clone, Debug)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The file's name, where it is one.
    pub file_name: Option<String>,
    /// The type that it was said to have.
    pub content_type: Option<String>,
    /// What is in it.
    pub body: Bytes,
}
