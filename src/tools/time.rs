//! `time.now`: the time, in any zone of the IANA database.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::read;
use crate::jobs::{Call, Class, Failure, Handler, Outcome, Run};

pub(super) fn tool() -> Handler {
    Handler {
        name: "time.now",
        description: "The present date and time, in UTC and in a time zone.",
        class: Class::Read,
        input_schema: json!({
            "type": "object",
            "properties": {
                "zone": {
                    "type": "string",
                    "description": "IANA time zone, such as Europe/Berlin",
                    "default": "UTC",
                    "maxLength": 64
                }
            },
            "additionalProperties": false
        }),
        timeout: Duration::from_secs(10),
        concurrency: None,
        run: Run::Inline(now),
    }
}

#[derive(Deserialize)]
struct Input {
    #[serde(default = "utc")]
    zone: String,
}

fn utc() -> String {
    "UTC".into()
}

#[derive(Serialize)]
struct Output {
    utc: String,
    local: String,
    zone: String,
    offset: String,
    weekday: String,
    unix: i64,
}

fn now(call: &Call) -> Outcome {
    let Input { zone } = read(&call.input)?;
    let moment = call.clock.now();
    let failure = |error: jiff::Error| Failure::permanent("unknown_zone", error.to_string());
    let utc = jiff::Timestamp::from_microsecond(moment.micros()).map_err(failure)?;
    let local = utc.in_tz(&zone).map_err(failure)?;
    let output = Output {
        utc: moment.to_string(),
        local: local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        offset: local.strftime("%:z").to_string(),
        weekday: local.strftime("%A").to_string(),
        unix: utc.as_second(),
        zone,
    };
    serde_json::to_string(&output).map_err(|error| Failure::permanent("internal", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    fn ask(input: &str) -> Outcome {
        // 2024-07-01T12:00:00Z, summer in Europe.
        let clock = Clock::from_fn(|| Timestamp::from_micros(1_719_835_200_000_000));
        now(&crate::tools::tests::call(input, clock))
    }

    #[test]
    fn tells_the_time_in_a_zone() {
        let output = ask(r#"{"zone":"Europe/Berlin"}"#).expect("a time");
        assert!(output.contains(r#""local":"2024-07-01T14:00:00+02:00""#), "{output}");
        assert!(ask("{}").expect("a time").contains(r#""weekday":"Monday""#));
    }

    #[test]
    fn an_unknown_zone_is_a_permanent_failure() {
        assert_eq!(ask(r#"{"zone":"Mars/Olympus"}"#).expect_err("none").code, "unknown_zone");
    }
}
