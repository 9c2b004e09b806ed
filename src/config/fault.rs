//! What can be wrong with a configuration.

use std::fmt;

/// A fault in the configuration: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: String,
    what: String,
}

impl Fault {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong and what to do.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn new(place: String, what: String) -> Self {
        Self { place, what }
    }

    /// The same in a file of another name.
    pub(super) fn in_file(self, from: &str, to: &str) -> Self {
        Self { place: self.place.replacen(from, to, 1), what: self.what.replace(from, to) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}
