//! What people who administer the service may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A user's role; each may do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Role {
    /// Looks at everything, changes nothing.
    Viewer,
    /// Also cancels jobs.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// As kept in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name; what is not known may least.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "admin" => Self::Admin,
            "operator" => Self::Operator,
            _ => Self::Viewer,
        }
    }
}
