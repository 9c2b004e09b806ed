//! Provider-bound members: what a provider wrote into earlier turns of a conversation
//! that only it understands, such as reasoning or a thought signature. They are sent back
//! to that provider and to no other.
//!
//! A request is written before the provider that answers it is known. So the members are
//! kept beside the body, where no client can put any, and the gateway adds them for each
//! provider that it tries ([`Bound::added`]). See docs/decisions/0045.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

/// Members of messages that the translation sets; those of the provider are ignored.
const OF_MESSAGES: &[&str] = &["function_call", "name", "refusal", "role", "tool_call_id", "tool_calls"];
/// The same for calls of tools, and for the functions in them.
const OF_CALLS: &[&str] = &["function", "id", "index"];
const OF_FUNCTIONS: &[&str] = &["arguments", "name"];

/// The provider and model that answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model, by the provider's name for it.
    pub model: Arc<str>,
}

/// Members that one provider wrote into one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// The provider's name.
    pub provider: String,
    /// The index of the message in the request.
    pub message: usize,
    /// Members of the message.
    pub fields: Map<String, Value>,
    /// Members of its tool calls, by index; `function` has those of the function.
    pub calls: Vec<(usize, Map<String, Value>)>,
}

/// All members of one request, and who answers it.
#[derive(Debug, Default)]
pub struct Bound {
    members: Vec<Members>,
    writer: Mutex<Option<Writer>>,
}

impl Bound {
    /// The members of a request.
    #[must_use]
    pub fn new(members: Vec<Members>) -> Self {
        Self { members, writer: Mutex::default() }
    }

    /// Records the provider that is tried now. Providers are tried one after the other, so
    /// the last one recorded is the one that answers.
    pub(super) fn asked(&self, provider: &Arc<str>, model: &Arc<str>) {
        let writer = Writer { provider: provider.clone(), model: model.clone() };
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    }

    /// The provider recorded last; `None` if the built-in model answers.
    #[must_use]
    pub fn writer(&self) -> Option<Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages with this provider's members; `None` if it has none.
    pub(super) fn added(&self, provider: &str, messages: &RawValue) -> Option<Box<RawValue>> {
        let own = self.members.iter().filter(|members| members.provider == provider);
        let mut own = own.peekable();
        own.peek()?;
        let mut messages: Vec<Box<RawValue>> = serde_json::from_str(messages.get()).ok()?;
        for members in own {
            let Some(raw) = messages.get_mut(members.message) else { continue };
            let Ok(mut message) = serde_json::from_str(raw.get()) else { continue };
            members.add_to(&mut message);
            *raw = to_raw_value(&message).ok()?;
        }
        to_raw_value(&messages).ok()
    }
}

impl Members {
    fn add_to(&self, message: &mut Value) {
        let Value::Object(fields) = message else { return };
        // Content is set by the translation, unless the provider wrote a list of parts.
        let is_its = |name: &str, value: &Value| name != "content" || value.is_array();
        let all = self.fields.iter().filter(|(name, value)| is_its(name, value));
        add(fields, all, OF_MESSAGES);
        for (place, members) in &self.calls {
            let calls = fields.get_mut("tool_calls");
            let Some(Value::Object(call)) = calls.and_then(|calls| calls.get_mut(place)) else { continue };
            add(call, members.iter(), OF_CALLS);
            if let (Some(Value::Object(function)), Some(Value::Object(members))) =
                (call.get_mut("function"), members.get("function"))
            {
                add(function, members.iter(), OF_FUNCTIONS);
            }
        }
    }
}

fn add<'a>(to: &mut Map<String, Value>, members: impl Iterator<Item = (&'a String, &'a Value)>, except: &[&str]) {
    let allowed = members.filter(|(name, _)| !except.contains(&name.as_str()));
    to.extend(allowed.map(|(name, value)| (name.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("an object") };
        fields
    }

    fn added(bound: &Bound, provider: &str, messages: &Value) -> Option<Value> {
        let raw = to_raw_value(messages).expect("JSON");
        bound.added(provider, &raw).map(|raw| serde_json::from_str(raw.get()).expect("JSON"))
    }

    fn messages() -> Value {
        let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } });
        json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "b", "tool_calls": [call] }])
    }

    #[test]
    fn it_goes_to_its_writer_and_to_no_other() {
        let bound = Bound::new(vec![Members {
            provider: "one".into(),
            message: 1,
            fields: object(json!({ "reasoning_content": "why" })),
            calls: vec![(0, object(json!({ "extra": { "s": 1 }, "function": { "sig": "x" } }))), (7, Map::new())],
        }]);
        assert_eq!(added(&bound, "two", &messages()), None);
        let mut wanted = messages();
        wanted[1]["reasoning_content"] = "why".into();
        wanted[1]["tool_calls"][0]["extra"] = json!({ "s": 1 });
        wanted[1]["tool_calls"][0]["function"]["sig"] = "x".into();
        assert_eq!(added(&bound, "one", &messages()), Some(wanted));
        assert_eq!(bound.writer(), None);
        bound.asked(&"one".into(), &"m".into());
        bound.asked(&"two".into(), &"n".into());
        assert_eq!(bound.writer(), Some(Writer { provider: "two".into(), model: "n".into() }));
    }

    #[test]
    fn it_changes_nothing_that_is_decided_here() {
        let fields = json!({ "role": "system", "content": "c", "tool_calls": [], "refusal": "r", "tool_call_id": "t" });
        let call = json!({ "id": "d", "index": 3, "function": { "name": "g", "arguments": "[]" } });
        let calls = vec![(0, object(call))];
        let members = Members { provider: "one".into(), message: 1, fields: object(fields), calls };
        let bound = Bound::new(vec![members.clone(), Members { message: 9, ..members }]);
        assert_eq!(added(&bound, "one", &messages()), Some(messages()));
        let parts = Members {
            provider: "one".into(),
            message: 1,
            fields: object(json!({ "content": [{ "type": "thinking" }] })),
            calls: Vec::new(),
        };
        let sent = added(&Bound::new(vec![parts]), "one", &messages()).expect("messages");
        assert_eq!(sent[1]["content"], json!([{ "type": "thinking" }]));
    }
}
