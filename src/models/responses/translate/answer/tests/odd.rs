//! Answers in which anything is anywhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::models::Bound;

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        Just(json!(1.5)),
        "[a{}\"\u{10ffff}\u{10d83d}\u{10de00}]{0,4}".prop_map(Value::from),
        Just(json!("error")),
    ];
    let name = prop::sample::select(vec![
        "index",
        "id",
        "type",
        "text",
        "thinking",
        "refusal",
        "reasoning",
        "name",
        "arguments",
        "function",
        "custom",
        "input",
        "signature",
        "data",
        "message",
        "content",
        "finish_reason",
        "error",
        "prompt_tokens",
        "delta",
    ]);
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()),
        ]
    })
}

/// An object with some of these members.
fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(names), any_value(), 0..4)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn any_odd_chunk() -> impl Strategy<Value = Value> {
    let message = some_of(&[
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "odd",
    ]);
    let choice =
        (message, some_of(&["index", "logprobs", "finish_reason", "message", "delta"])).prop_map(|(message, more)| {
            let mut choice = json!({ "delta": message });
            choice.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            choice
        });
    let choices = prop::collection::vec(prop_oneof![4 => choice, 1 => any_value()], 0..3);
    (choices, some_of(&["usage", "service_tier", "choices"])).prop_map(|(choices, more)| {
        let mut chunk = json!({ "choices": choices });
        chunk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        chunk
    })
}

proptest! {
    #[test]
    fn they_become_a_response(chunks in prop::collection::vec(any_odd_chunk(), 0..6), is_sealed: bool, is_summary: bool) {
        let bound = Arc::new(Bound::default());
        bound.asked(&"gem".into(), &"gem-1".into());
        let shape = Shape { bound, is_sealed, is_summary, custom: BTreeSet::from(["a".into()]), ..Shape::default() };
        check(&events_of(shape.clone(), &[stream(&chunks, true).as_bytes()]));
        for chunk in chunks {
            let mut chunk = chunk;
            for choice in chunk["choices"].as_array_mut().into_iter().flatten().filter(|choice| choice.is_object()) {
                choice["message"] = choice["delta"].take();
            }
            whole_of(shape.clone(), chunk);
        }
    }
}
