//! A multipart form (RFC 7578), as files are sent.

mod reader;
#[cfg(test)]
mod tests;

use bytes::{BufMut as _, Bytes, BytesMut};

pub(in crate::models) use reader::{FormBody, PartReader, WholeForm};
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::models) use reader::{FormLimits, FormReader};

use crate::id::{hex, random_bytes};

/// Bytes that a part takes besides its content and its names, about.
const HEAD: usize = 256;

/// The parts of a form, in order.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Each of them.
    pub parts: Vec<Part>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Form {
    /// What a field says that is no file; the first one where there are several.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let part = self.parts.iter().find(|part| part.name == name && part.file_name.is_none())?;
        str::from_utf8(&part.body).ok()
    }

    /// The first file of that name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name && part.file_name.is_some())
    }

    /// The form as it is sent, for another model: its media type and its bytes.
    #[must_use]
    pub fn encode(&self, model: &str) -> (String, Bytes) {
        // 128 random bits that nobody knew before, so no part has them in it.
        let boundary = format!("agentd-{}", hex(&random_bytes::<16>()));
        let parts: usize = self.parts.iter().map(|part| part.body.len() + HEAD + part.name.len()).sum();
        let mut out = BytesMut::with_capacity(parts + model.len() + HEAD);
        let others = self.parts.iter().filter(|part| part.name != "model");
        let model = Part {
            name: "model".into(),
            file_name: None,
            content_type: None,
            body: Bytes::copy_from_slice(model.as_bytes()),
        };
        for part in std::iter::once(&model).chain(others) {
            part.write(&boundary, &mut out);
        }
        out.put_slice(format!("--{boundary}--\r\n").as_bytes());
        (format!("multipart/form-data; boundary={boundary}"), out.freeze())
    }
}

impl Part {
    fn write(&self, boundary: &str, out: &mut BytesMut) {
        out.put_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"").as_bytes());
        out.put_slice(plain(&self.name).as_bytes());
        if let Some(name) = &self.file_name {
            out.put_slice(b"\"; filename=\"");
            out.put_slice(plain(name).as_bytes());
        }
        out.put_slice(b"\"\r\n");
        if let Some(kind) = &self.content_type {
            out.put_slice(format!("Content-Type: {}\r\n", plain(kind)).as_bytes());
        }
        out.put_slice(b"\r\n");
        out.put_slice(&self.body);
        out.put_slice(b"\r\n");
    }
}

/// A name without what servers read differently inside quotation marks.
fn plain(name: &str) -> String {
    let apart = |character: char| character.is_control() || matches!(character, '"' | '\\');
    name.chars().map(|character| if apart(character) { '_' } else { character }).collect()
}
