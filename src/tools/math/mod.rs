//! `math.eval`: arithmetic in double precision.

mod expression;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::read;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

const MAX_VARIABLES: usize = 32;

pub(super) fn tool() -> Handler {
    Handler {
        name: "math.eval",
        description: "Computes an arithmetic expression in double precision: + - * / ^ with the usual precedence \
                      (-2^2 is -4, 2^3^2 is 512), brackets, functions such as sqrt, ln, log10, exp, sin, cos, abs, \
                      round, floor, ceil, min, max, the constants PI and E, and variables given with it.",
        class: Class::Read,
        input_schema: json!({
            "type": "object",
            "properties": {
                "expression": { "type": "string", "minLength": 1, "maxLength": 1000 },
                "variables": {
                    "type": "object",
                    "description": "Values of the names in the expression",
                    "additionalProperties": { "type": "number" },
                    "maxProperties": MAX_VARIABLES
                }
            },
            "required": ["expression"],
            "additionalProperties": false
        }),
        timeout: Duration::from_secs(10),
        concurrency: None,
        run: Run::Inline(eval),
    }
}

#[derive(Deserialize)]
struct Input {
    expression: String,
    #[serde(default)]
    variables: std::collections::BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct Output {
    value: f64,
}

fn eval(call: &Call) -> Outcome {
    let Input { expression, variables } = read(&call.input)?;
    let wrong = |detail: String| Failure::permanent("invalid_expression", detail);
    // Zero has no sign that anybody asked for.
    let value = expression::compute(&expression, &variables).map_err(wrong)? + 0.0;
    if !value.is_finite() {
        return Err(Failure::permanent("not_a_number", format!("the result is {value}, which JSON cannot write")));
    }
    serde_json::to_string(&Output { value }).map_err(|error| Failure::permanent("internal", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use proptest::prelude::*;

    fn ask(input: &serde_json::Value) -> Outcome {
        eval(&crate::tools::tests::call(&input.to_string(), Clock::system()))
    }

    fn value(expression: &str) -> String {
        ask(&json!({ "expression": expression })).unwrap_or_else(|failure| failure.code.into())
    }

    #[test]
    fn computes() {
        assert_eq!(value("2 + 3 * 4"), r#"{"value":14.0}"#);
        assert_eq!(value("(1 + 2) ^ 3 - sqrt(16)"), r#"{"value":23.0}"#);
        assert_eq!(value("-2^2"), r#"{"value":-4.0}"#);
        assert_eq!(value("2^3^2"), r#"{"value":512.0}"#);
        assert_eq!(value("-0"), r#"{"value":0.0}"#);
        let area = json!({ "expression": "PI * r^2", "variables": { "r": 2 } });
        assert!(ask(&area).expect("a value").starts_with(r#"{"value":12.566"#));
    }

    #[test]
    fn says_what_it_cannot() {
        assert_eq!(value("1 / 0"), "not_a_number");
        assert_eq!(value("2 +"), "invalid_expression");
        assert_eq!(value("x + 1"), "invalid_expression");
        assert_eq!(value(&"(".repeat(500)), "invalid_expression");
    }

    #[test]
    fn long_chains_do_not_break_it() {
        for piece in ["-", "(", "2^", "2*(", "sin", "[", "{", "+1", "-(", "abs "] {
            let long: String = piece.repeat(1000 / piece.len());
            let _ = value(&long);
            let _ = value(&format!("{long}1"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(expression in "[-0-9+*/^%(){}\\[\\]a-zA-Z._ ]{1,200}") {
            let _ = value(&expression);
        }
    }
}
