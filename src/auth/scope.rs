//! What a key may do. A handler names its scope as a type.

/// A right that a key can have.
pub trait Scope: 'static {
    /// Its name in requests and answers.
    const NAME: &'static str;
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $type:ident = $name:literal;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $type {}
        impl Scope for $type {
            const NAME: &'static str = $name;
        })*
        const KNOWN: &[&str] = &[$($name),*];
    };
}

scopes! {
    /// Look at jobs, their steps and events, and at the tools there are.
    JobsRead = "jobs:read";
    /// Submit, cancel, retry and delete jobs.
    JobsWrite = "jobs:write";
    /// Look at what the tenant has used.
    UsageRead = "usage:read";
    /// Call language models, and keep files and batches for them.
    ModelsUse = "models:use";
}

/// The name of a scope as a client sends it: `*` or a known one.
#[derive(Clone, Copy, Debug)]
pub enum ScopeName {}

impl schemars::JsonSchema for ScopeName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = ["*"].iter().chain(KNOWN).collect();
        schemars::json_schema!({ "type": "string", "enum": names })
    }
}

/// The scopes of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

impl Scopes {
    /// Every scope, also those that later versions add.
    #[must_use]
    pub fn all() -> Self {
        Self(vec!["*".into()])
    }

    /// The named scopes.
    ///
    /// # Errors
    /// The first name that is none, or why the list is not one.
    pub fn named(names: Vec<String>) -> Result<Self, String> {
        if names.is_empty() {
            return Err("must name at least one scope, or be left out for all".into());
        }
        for name in &names {
            if name != "*" && !KNOWN.contains(&name.as_str()) {
                return Err(format!("{name:?} is no scope; there are *, {}", KNOWN.join(", ")));
            }
        }
        Ok(Self(names))
    }

    /// As kept in the database.
    #[must_use]
    pub fn to_column(&self) -> String {
        self.0.join(" ")
    }

    /// From the database.
    #[must_use]
    pub fn from_column(text: &str) -> Self {
        Self(text.split(' ').map(str::to_owned).collect())
    }

    /// Whether `name` is among them.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|scope| scope == "*" || scope == name)
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}
