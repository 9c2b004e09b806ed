//! What a provider says went wrong, in whichever form it says so.

use serde_json::Value;

use crate::models::lenient;

/// Bytes of an error that are read.
const LONGEST: usize = 64 << 10;
/// Characters of a provider's message that are passed on.
const LONGEST_MESSAGE: usize = 500;

/// Codes by which providers say that the account has no credit, which lasts until
/// somebody pays: OpenAI, `DeepSeek`, Moonshot, Alibaba, Volcengine, one-api and
/// those that speak like them.
const NO_CREDIT: &[&str] = &[
    "accountoverdueerror",
    "arrearage",
    "billing_hard_limit_reached",
    "billing_not_active",
    "credits_exhausted",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "insufficient_credits",
    "insufficient_funds",
    "insufficient_quota",
    "insufficient_user_quota",
    "payment_required",
    "quota_exhausted",
];
/// The same where the only code is a general one.
const NO_CREDIT_TEXTS: &[&str] = &["credit balance is too low", "insufficient balance", "insufficient credits"];

/// Codes by which providers say that they refuse what the request says.
const CONTENT: &[&str] = &[
    "content_filter",
    "content_moderation",
    "content_policy_violation",
    "content_safety",
    "contentfilter",
    "data_inspection_failed",
    "datainspectionfailed",
    "flagged_input",
    "input_moderation",
    "moderation",
    "moderation_blocked",
    "moderation_error",
    "prompt_blocked",
    "responsibleaipolicyviolation",
    "safety",
];
const CONTENT_TEXTS: &[&str] = &["moderation", "content policy", "content_policy", "usage policies", "was flagged"];

/// Words by which a provider says that it does not take a field at all, in place
/// of refusing its value.
const REFUSED_FIELD: &[&str] = &[
    "at the same time",
    "both",
    "deprecated",
    "extra",
    "instead",
    "mutually exclusive",
    "not allowed",
    "not permitted",
    "not supported",
    "unexpected",
    "unknown",
    "unrecognized",
    "unsupported",
];

/// An error of a provider's.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaint {
    /// The status that it names, where that is one of an error.
    pub status: Option<u16>,
    /// What it says, for people.
    message: Option<String>,
    /// Its codes and types, in lower case.
    codes: Vec<String>,
    /// All of it, in lower case.
    text: String,
}

impl Complaint {
    /// Reads the body of an answer, or the data of an event.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = &body[..body.len().min(LONGEST)];
        let text = String::from_utf8_lossy(body).to_lowercase();
        let Ok(whole) = serde_json::from_slice::<Value>(&lenient::repair(body)) else {
            return Self { text, ..Self::default() };
        };
        // Some put it into a list; some leave the frame out.
        let first = whole.get(0).unwrap_or(&whole);
        let choice = &first["choices"][0]["error"];
        let inner = [&first["error"], choice, &first["response"]["error"], &first["errors"][0]];
        let inner = inner.into_iter().find(|inner| !inner.is_null()).unwrap_or(first);
        let places = [inner, &inner["metadata"], &inner["innererror"], first];
        let codes = places.iter().flat_map(|place| ["code", "type", "reason", "status"].map(|name| &place[name]));
        Self {
            status: places.iter().find_map(|place| status_in(place)),
            message: message_in(inner).or_else(|| message_in(first)),
            codes: codes.filter_map(Value::as_str).map(str::to_lowercase).collect(),
            text,
        }
    }

    /// Whether the account at the provider has no credit.
    pub(super) fn is_no_credit(&self) -> bool {
        self.has_code(NO_CREDIT) || self.mentions(NO_CREDIT_TEXTS)
    }

    /// Whether it is about what the request says, not about who sends it.
    pub(super) fn is_about_content(&self) -> bool {
        self.has_code(CONTENT) || self.mentions(CONTENT_TEXTS)
    }

    /// Whether it says that a field is not taken, whatever is in it.
    pub(super) fn refuses_field(&self, name: &str) -> bool {
        self.mentions_word(name) && self.mentions(REFUSED_FIELD)
    }

    /// What it says, for people: one short line.
    pub(super) fn message(&self) -> Option<String> {
        let words: Vec<_> = self.message.as_deref()?.split_whitespace().collect();
        let text: String = words.join(" ").chars().take(LONGEST_MESSAGE).collect();
        (!text.is_empty()).then_some(text)
    }

    fn has_code(&self, known: &[&str]) -> bool {
        self.codes.iter().any(|code| known.contains(&code.as_str()))
    }

    fn mentions(&self, texts: &[&str]) -> bool {
        texts.iter().any(|text| self.text.contains(text))
    }

    /// Whether a name stands in it as a word: `max_tokens` is no part of another.
    fn mentions_word(&self, name: &str) -> bool {
        let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let bytes = self.text.as_bytes();
        self.text.match_indices(name).any(|(place, _)| {
            let before = place.checked_sub(1).and_then(|before| bytes.get(before));
            !is_part(before) && !is_part(bytes.get(place + name.len()))
        })
    }
}

/// A status of an error, as a number or as text.
fn status_in(object: &Value) -> Option<u16> {
    let names = ["code", "status", "status_code", "http_status", "statusCode"];
    names.iter().find_map(|name| {
        let value = &object[*name];
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    })
}

fn message_in(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let names = ["message", "detail", "error", "msg", "error_message"];
    names.iter().find_map(|name| match &value[*name] {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list.first().and_then(|first| first["msg"].as_str()).map(str::to_owned),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Complaint {
        Complaint::read(body.as_bytes())
    }

    #[test]
    fn the_status_is_found_wherever_it_is() {
        for (body, status) in [
            (r#"{"error":{"message":"Provider returned error","code":502}}"#, Some(502)),
            (r#"{"error":{"code":"429"}}"#, Some(429)),
            (r#"{"error":{"status":503,"code":"overloaded"}}"#, Some(503)),
            (r#"{"object":"error","message":"no","code":400}"#, Some(400)),
            (r#"{"choices":[{"error":{"code":529},"finish_reason":"error"}]}"#, Some(529)),
            (r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, None),
            (r#"[{"error":{"code":429}}]"#, Some(429)),
            (r#"{"error":{"code":200}}"#, None),
            (r#"{"error":{"code":40303}}"#, None),
            (r#"{"error":"overloaded"}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(read(body).status, status, "{body}");
        }
    }

    #[test]
    fn it_is_told_in_one_short_line() {
        for (body, message) in [
            (r#"{"error":{"message":"a\n b"}}"#, Some("a b")),
            (r#"{"error":"overloaded"}"#, Some("overloaded")),
            (r#"{"message":"no"}"#, Some("no")),
            (
                r#"{"detail":[{"loc":["body","x"],"msg":"Extra inputs are not permitted"}]}"#,
                Some("Extra inputs are not permitted"),
            ),
            (r#"{"error":{"code":500}}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(read(body).message().as_deref(), message, "{body}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(read(&long).message().map(|it| it.len()), Some(LONGEST_MESSAGE));
    }

    #[test]
    fn who_has_to_do_something_is_told_by_the_code() {
        for body in [
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#,
            r#"{"error":{"type":"insufficient_quota","code":null}}"#,
            r#"{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}"#,
            r#"{"error":{"type":"exceeded_current_quota_error"}}"#,
            r#"{"code":"Arrearage","message":"Access denied"}"#,
            r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
        ] {
            assert!(read(body).is_no_credit() && !read(body).is_about_content(), "{body}");
        }
        for body in [
            r#"{"error":{"code":403,"message":"Your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
            r#"{"error":{"code":"content_policy_violation"}}"#,
            r#"{"error":{"code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            r#"{"error":{"message":"This model requires moderation"}}"#,
        ] {
            assert!(read(body).is_about_content() && !read(body).is_no_credit(), "{body}");
        }
        for body in [r#"{"error":{"code":"rate_limit_exceeded","type":"requests"}}"#, "{}", "", "<html>"] {
            assert!(!read(body).is_about_content() && !read(body).is_no_credit(), "{body}");
        }
    }

    #[test]
    fn a_field_that_is_not_taken_is_told_from_a_wrong_value() {
        let instead = read(
            r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens"}}"#,
        );
        assert!(instead.refuses_field("max_tokens") && instead.refuses_field("max_completion_tokens"));
        let extra = read(r#"{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#);
        assert!(extra.refuses_field("stream_options") && !extra.refuses_field("max_tokens"));
        let value = read(r#"{"error":{"message":"max_tokens must be at most 4096"}}"#);
        assert!(!value.refuses_field("max_tokens"));
        let part = read(r#"{"error":{"message":"unknown field max_tokens_x"}}"#);
        assert!(!part.refuses_field("max_tokens"));
    }
}
