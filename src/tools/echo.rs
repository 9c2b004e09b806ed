//! `echo`: gives back what it was given. For trying things out.

use std::time::Duration;

use serde_json::Value;

use crate::jobs::{Class, Handler, Run};

pub(super) fn tool() -> Handler {
    Handler {
        name: "echo",
        description: "Gives back its input as it is.",
        class: Class::Read,
        input_schema: Value::Bool(true),
        timeout: Duration::from_secs(10),
        concurrency: None,
        run: Run::Inline(|call| Ok(call.input.to_string())),
    }
}
