//! Names of the environment that the systems before this one used. Those whose
//! setting exists are aliases of a key; the rest is answered here, because a
//! value that is silently ignored is worse than a refusal.

use super::reader::{Origin, Reader};

/// What `ENV` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Weak secrets are faults.
    Production,
    /// They are warnings.
    Other,
}

impl Mode {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        if reader
            .variable("AUTH_ENABLED")
            .is_some_and(|value| !["true", "1", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
        {
            let origin = Origin::Environment("AUTH_ENABLED".into());
            reader.fault(&origin, "authentication cannot be switched off; remove the variable".into());
        }
        let production = reader.variable("ENV").is_some_and(|env| env.eq_ignore_ascii_case("production"));
        if production { Self::Production } else { Self::Other }
    }
}

/// Set without effect in this version.
const NOT_YET: &[&str] = &[
    "APP_NAME",
    "AGENT_LLM_ENABLED",
    "AGENTS_MENU_VECTOR_STORE_ID",
    "AGENTS_ALLERGENS_VECTOR_STORE_ID",
    "AGENTS_POLICIES_VECTOR_STORE_ID",
    "OTEL_ENABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "TRACE_SAMPLE_RATE",
    "JWT_SECRET_KEY",
    "JWT_ALGORITHM",
    "JWT_ACCESS_TOKEN_EXPIRE_MINUTES",
    "JWT_REFRESH_TOKEN_EXPIRE_DAYS",
    "MAX_DAILY_SLACK_POSTS",
    "MAX_DAILY_RAG_SEARCHES",
    "SLACK_WEBHOOK_URL",
    "SLACK_BOT_TOKEN",
    "SLACK_DEFAULT_CHANNEL",
    "SLACK_SIGNING_SECRET",
    "SLACK_SIGNING_REQUIRED",
];

/// Warns of what is set and does nothing.
pub(super) fn warn(reader: &mut Reader<'_>) {
    for name in NOT_YET {
        if reader.variable(name).is_some() {
            reader.warn(format!("environment {name}: this version does not have that feature yet; it has no effect"));
        }
    }
    for name in reader.variables("INTEGRATIONS_") {
        reader.warn(format!("environment {name}: this version does not have that feature yet; it has no effect"));
    }
    if reader.variable("DATABASE_URL").is_some() {
        reader.warn("environment DATABASE_URL: agentd keeps its own database; set data.dir to say where".into());
    }
    for name in reader.variables("SUPABASE_") {
        reader.warn(format!("environment {name}: agentd keeps its own database and does not use Supabase"));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_names_what_has_no_effect() {
        let manual = include_str!("../../docs/configuration.md");
        for name in super::NOT_YET {
            assert!(manual.contains(&format!("`{name}`")), "docs/configuration.md does not name {name}");
        }
    }
}
