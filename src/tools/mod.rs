//! The built-in tools: each a name, a schema, and a function.

mod echo;
mod math;
mod summarize;
mod time;
pub mod web;

use serde::de::DeserializeOwned;

use crate::jobs::{Failure, Registry};
use crate::outbound::Outbound;

/// Adds every tool to the registry.
///
/// # Errors
/// When a name is taken or a schema is none: a fault of ours.
pub fn register(registry: &mut Registry, outbound: Outbound, web: web::Options) -> Result<(), String> {
    registry.add(echo::tool())?;
    registry.add(math::tool())?;
    registry.add(time::tool())?;
    registry.add(summarize::tool())?;
    web::register(registry, outbound, web)
}

/// Reads an input that has passed its schema.
fn read<T: DeserializeOwned>(input: &str) -> Result<T, Failure> {
    serde_json::from_str(input).map_err(|error| Failure::permanent("invalid_input", error.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::jobs::{Call, JobId};

    /// A call as the executor makes it.
    pub(super) fn call(input: &str, clock: Clock) -> Call {
        Call {
            job: JobId(uuid::Uuid::nil()),
            tenant: 1,
            payer: crate::budgets::Payer::of_tenant(1),
            attempt: 1,
            input: input.into(),
            stop: tokio_util::sync::CancellationToken::new(),
            clock,
            steps: crate::jobs::Steps::default(),
        }
    }
}
