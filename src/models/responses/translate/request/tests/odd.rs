//! Requests in which anything is anywhere.

use proptest::prelude::*;

use super::*;

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(1)),
        prop::sample::select(vec![
            "message",
            "function_call",
            "custom_tool_call",
            "function_call_output",
            "reasoning",
            "assistant",
            "user",
            "system",
            "output_text",
            "input_text",
            "refusal",
            "summary_text",
            "function",
            "custom",
            "allowed_tools",
            "auto",
            "required",
            "a",
            "{\"provider\":\"p\",\"model\":\"m\",\"message\":{\"a\":1},\"call\":{\"b\":2}}",
        ])
        .prop_map(Value::from),
    ];
    let name = prop::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "refusal",
        "call_id",
        "name",
        "arguments",
        "input",
        "output",
        "summary",
        "encrypted_content",
        "provider_data",
        "format",
        "tools",
        "mode",
        "effort",
        "id",
        "odd~/",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn they_are_translated_or_refused_by_their_place(
        input in prop::collection::vec(any_value().prop_filter("an item", Value::is_object), 0..5),
        fields in prop::collection::btree_map(
            prop::sample::select(vec!["tools", "tool_choice", "text", "reasoning", "include", "stream_options", "instructions"]),
            any_value(), 0..2,
        ),
        is_earlier: bool,
    ) {
        let mut body = json!({ "model": "m", "input": if is_earlier { json!("a") } else { json!(input) } });
        for (name, value) in fields {
            body[name] = value;
        }
        let answer = chat(body.clone(), if is_earlier { &input } else { &[] }, false);
        match answer.get("refused") {
            None => prop_assert!(answer["messages"].is_array()),
            Some(_) => {
                let at = answer["at"].as_str().unwrap_or_default();
                // What is missing is refused where it should be.
                let parent = at.rsplit_once('/').map_or("", |(parent, _)| parent);
                let is_there = body.pointer(parent).is_some() || at.starts_with("/previous_response_id");
                prop_assert!(is_there, "{at} in {body}");
            }
        }
    }
}
