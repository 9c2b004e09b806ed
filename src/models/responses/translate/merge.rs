//! Merges the deltas of unknown members by the rules of `OpenAI`'s own clients, extended
//! for reasoning blocks.

use serde_json::{Map, Value};

/// Members that are replaced instead of appended to.
const LABELS: &[&str] = &["format", "id", "index", "kind", "name", "object", "role", "type"];
/// Members that are text: deltas are appended even if equal to what came before.
const TEXTS: &[&str] =
    &["content", "reasoning", "reasoning_content", "reasoning_text", "summary", "text", "thinking", "thought"];
/// Lists of blocks; a delta of the same type continues the last block.
const BLOCKS: &[&str] = &["content", "reasoning_details", "summary", "thinking", "thinking_blocks"];
/// How many elements from the end are searched for the one that a delta continues.
const LOOKED_AT: usize = 64;

/// Adds a delta of the member `name`. Other strings that repeat the whole value are not
/// appended.
pub(super) fn merge(into: &mut Value, part: Value, name: &str) {
    match (into, part) {
        (_, Value::Null) => {}
        (Value::String(text), Value::String(more)) => {
            if LABELS.contains(&name) {
                *text = more;
            } else if TEXTS.contains(&name) || *text != more {
                text.push_str(&more);
            }
        }
        (Value::Object(fields), Value::Object(more)) => merge_fields(fields, more),
        (Value::Array(list), Value::Array(more)) => {
            for element in more {
                match continued(list, &element, BLOCKS.contains(&name)) {
                    Some(before) => merge(before, element, name),
                    None => list.push(element),
                }
            }
        }
        (into, part) => *into = part,
    }
}

/// The same for all members of an object.
pub(super) fn merge_fields(into: &mut Map<String, Value>, parts: Map<String, Value>) {
    for (name, part) in parts {
        match into.get_mut(&name) {
            Some(before) => merge(before, part, &name),
            None => drop(into.insert(name, part)),
        }
    }
}

/// The element that `next` continues.
fn continued<'a>(list: &'a mut [Value], next: &Value, are_blocks: bool) -> Option<&'a mut Value> {
    let has_index = next.get("index").is_some_and(Value::is_u64);
    let near = if has_index { LOOKED_AT } else { usize::from(are_blocks) };
    let continues = |before: &&mut Value| {
        if are_blocks { is_same_block(before, next) } else { before.get("index") == next.get("index") }
    };
    list.iter_mut().rev().take(near).find(continues)
}

/// Whether `next` continues a block. Signed blocks and data are complete.
fn is_same_block(before: &Value, next: &Value) -> bool {
    let given = |value: &Value, name: &str| value.get(name).is_some_and(|it| !it.is_null());
    let agrees = |name| !given(before, name) || !given(next, name) || before[name] == next[name];
    let has_text = TEXTS.iter().any(|name| given(next, name));
    before.is_object()
        && next.is_object()
        && before["type"] == next["type"]
        && agrees("index")
        && agrees("id")
        && !given(next, "data")
        && !(given(before, "signature") && has_text)
}

/// About how many bytes a value has.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>() + 2,
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Whether a value is null or empty.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(name: &str, parts: &[Value]) -> Value {
        let mut whole = parts[0].clone();
        parts[1..].iter().for_each(|part| merge(&mut whole, part.clone(), name));
        whole
    }

    #[test]
    fn parts_become_the_whole() {
        let cases = [
            ("signature", vec![json!("ab"), json!("cd")], json!("abcd")),
            ("signature", vec![json!("ab"), json!("ab"), Value::Null], json!("ab")),
            ("reasoning", vec![json!("ha"), json!("ha")], json!("haha")),
            ("type", vec![json!("a"), json!("b")], json!("b")),
            ("closed", vec![json!(false), json!(true)], json!(true)),
            (
                "extra",
                vec![json!({ "a": { "b": "x" } }), json!({ "a": { "b": "y" }, "c": 1 })],
                json!({ "a": { "b": "xy" }, "c": 1 }),
            ),
            (
                "annotations",
                vec![json!([{ "type": "a", "text": "x" }]), json!([{ "type": "a", "text": "y" }])],
                json!([{ "type": "a", "text": "x" }, { "type": "a", "text": "y" }]),
            ),
            (
                "parts",
                vec![json!([{ "index": 0, "s": "a" }, { "index": 1, "s": "b" }]), json!([{ "index": 0, "s": "c" }])],
                json!([{ "index": 0, "s": "ac" }, { "index": 1, "s": "b" }]),
            ),
        ];
        for (name, parts, whole) in cases {
            assert_eq!(merged(name, &parts), whole, "{name} {parts:?}");
        }
    }

    #[test]
    fn blocks_of_thought_grow_until_they_are_signed() {
        let text = |text: &str| json!([{ "type": "reasoning.text", "index": 0, "text": text, "format": "f" }]);
        let signed = json!([{ "type": "reasoning.text", "index": 0, "signature": "s", "format": "f" }]);
        let data = json!([{ "type": "reasoning.encrypted", "index": 0, "data": "d" }]);
        let whole = merged("reasoning_details", &[text("a"), text("a"), signed, text("b"), data.clone(), data]);
        assert_eq!(
            whole,
            json!([
                { "type": "reasoning.text", "index": 0, "text": "aa", "format": "f", "signature": "s" },
                { "type": "reasoning.text", "index": 0, "text": "b", "format": "f" },
                { "type": "reasoning.encrypted", "index": 0, "data": "d" },
                { "type": "reasoning.encrypted", "index": 0, "data": "d" },
            ])
        );
        let part = |text: &str| json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": text }] }]);
        let said = json!([{ "type": "text", "text": "c" }]);
        assert_eq!(
            merged("content", &[part("a"), part("b"), said]),
            json!([
                { "type": "thinking", "thinking": [{ "type": "text", "text": "ab" }] }, { "type": "text", "text": "c" },
            ])
        );
    }
}
