use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::models::form::Part;
use crate::models::price::{Prices, Sheet};
use crate::models::tokens::Vocabulary;

fn fields(body: &Value) -> Fields {
    serde_json::from_str(&body.to_string()).expect("an object")
}

fn price(model: &str) -> std::sync::Arc<Price> {
    Prices::shipped().of("groq", model).expect(model)
}

fn estimated(endpoint: Endpoint, model: &str, body: &Value) -> Result<Estimate, String> {
    let told = |problem: Problem| {
        let place = problem.errors().first().map(|error| error.pointer.clone()).unwrap_or_default();
        format!("{} {place}", problem.code())
    };
    estimate(endpoint, &fields(body), &price(model)).map_err(told)
}

fn chat(model: &str, body: &Value) -> Result<Estimate, String> {
    estimated(Endpoint::ChatCompletions, model, body)
}

fn input(model: &str, messages: &Value) -> u64 {
    chat(model, &json!({ "messages": messages, "max_tokens": 1 })).expect("an estimate").input
}

/// The example of the maker's cookbook, with the counts that their interface
/// answered with.
#[test]
fn plain_text_is_counted_as_its_maker_counts_it() {
    let messages = json!([
        { "role": "system",
          "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English." },
        { "role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth." },
        { "role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue." },
        { "role": "system", "name": "example_user",
          "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage." },
        { "role": "system", "name": "example_assistant",
          "content": "Let's talk later when we're less busy about how to do better." },
        { "role": "user",
          "content": "This late pivot means we don't have time to boil the ocean for the client deliverable." },
    ]);
    assert_eq!(input("gpt-3.5-turbo", &messages), 129);
    assert_eq!(input("gpt-4-0613", &messages), 129);
    assert_eq!(input("gpt-4o", &messages), 124);
    assert_eq!(input("gpt-4o-mini", &messages), 124);
}

#[test]
fn fields_that_no_model_reads_count_nothing() {
    let plain = json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 10 });
    let mut more = plain.clone();
    for (name, value) in [
        ("model", json!("gpt-4o")),
        ("temperature", json!(0.5)),
        ("stream_options", json!({ "include_usage": true })),
        ("metadata", json!({ "a": "b" })),
        ("logit_bias", json!({ "50256": -100 })),
        ("tools", Value::Null),
        ("n", Value::Null),
    ] {
        more[name] = value;
    }
    assert_eq!(chat("gpt-4o", &plain), chat("gpt-4o", &more));
    assert_eq!(chat("gpt-4o", &plain).expect("an estimate").input, 8);
    more["something_new"] = json!("which somebody may read");
    assert!(chat("gpt-4o", &more).expect("an estimate").input > 8);
}

#[test]
fn output_is_what_is_asked_for_or_what_the_model_can() {
    let hello = json!([{ "role": "user", "content": "hello" }]);
    let output = |more: Value| {
        let mut body = json!({ "messages": hello });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        chat("gpt-4o", &body).map(|it| it.output)
    };
    assert_eq!(output(json!({})), Ok(16_384));
    assert_eq!(output(json!({ "max_tokens": 100 })), Ok(100));
    assert_eq!(output(json!({ "max_completion_tokens": 100, "n": 3 })), Ok(300));
    assert_eq!(output(json!({ "max_tokens": null, "n": 128 })), Ok(16_384 * 128));
    assert_eq!(output(json!({ "max_tokens": 50, "max_completion_tokens": 100 })), Ok(100));
    // What is predicted and not written is paid for too.
    assert!(output(json!({ "max_tokens": 1, "prediction": { "type": "content", "content": "abc" } })) > Ok(20));
    for wrong in [json!(0), json!(-1), json!(1.5), json!("100"), json!(true), json!(1e30)] {
        assert_eq!(output(json!({ "max_tokens": wrong })), Err("invalid_request /max_tokens".into()), "{wrong}");
    }
    assert_eq!(output(json!({ "max_tokens": 16_385 })), Err("invalid_request /max_tokens".into()));
    for wrong in [json!(0), json!(-1), json!(129), json!("2"), json!(1.5)] {
        assert_eq!(output(json!({ "n": wrong })), Err("invalid_request /n".into()), "{wrong}");
    }
    // What the input leaves of the context.
    let long = json!({ "messages": [{ "role": "user", "content": "hello ".repeat(8000) }] });
    let left = chat("gpt-4", &long).expect("an estimate");
    assert_eq!(left.input + left.output, 8192);
    assert!(left.input >= 8000);
}

#[test]
fn the_most_is_what_both_cost() {
    let body = json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 100 });
    assert_eq!(chat("gpt-4o", &body).expect("an estimate").most.to_string(), "0.00102");
}

#[test]
fn a_request_that_is_longer_than_the_context_is_refused() {
    let body = json!({ "messages": [{ "role": "user", "content": "hello ".repeat(9000) }], "max_tokens": 1 });
    assert_eq!(chat("gpt-4", &body), Err("context_length_exceeded ".into()));
    // Where the vocabulary is not known, only the provider can tell.
    let body = json!({ "messages": [{ "role": "user", "content": "hello ".repeat(100_000) }], "max_tokens": 1 });
    assert_eq!(chat("claude-haiku-4-5", &body).map(|it| it.input), Ok(200_000));
}

#[test]
fn what_is_no_chat_is_refused() {
    for (messages, place) in [
        (json!(null), "/messages"),
        (json!("hello"), "/messages"),
        (json!({}), "/messages"),
        (json!(["hello"]), "/messages/0"),
        (json!([{ "role": "user", "content": "a" }, 7]), "/messages/1"),
    ] {
        let refused = chat("gpt-4o", &json!({ "messages": messages, "max_tokens": 1 }));
        assert_eq!(refused, Err(format!("invalid_request {place}")), "{messages}");
    }
    assert_eq!(chat("gpt-4o", &json!({})), Err("invalid_request /messages".into()));
}

#[test]
fn images_count_as_much_as_they_can() {
    let image = |url: &str| {
        json!([{ "role": "user", "content": [
            { "type": "text", "text": "hello" },
            { "type": "image_url", "image_url": { "url": url, "detail": "high" } },
        ] }])
    };
    let by_url = input("gpt-4o", &image("https://example.com/a.png"));
    assert!((1445..1520).contains(&by_url), "{by_url}");
    let data = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
    assert_eq!(input("gpt-4o", &image(&data)), by_url);
    // Where nothing is known of images, one can fill the context.
    assert_eq!(input("gemini-2.5-flash", &image(&data)), 1_048_576 + 65_536);
    let ceiling = Price::ceiling(Usd::from_nano(1), Usd::from_nano(1));
    let body = fields(&json!({ "messages": image("https://example.com/a.png"), "max_tokens": 1 }));
    let refused = estimate(Endpoint::ChatCompletions, &body, &ceiling).expect_err("nothing bounds it");
    assert_eq!(refused.code(), "unknown_price");
}

#[test]
fn audio_needs_a_price() {
    let audio = json!([{ "role": "user", "content": [
        { "type": "input_audio", "input_audio": { "data": "A".repeat(4000), "format": "mp3" } } ] }]);
    let body = json!({ "messages": audio, "max_tokens": 1 });
    assert_eq!(chat("gpt-4o", &body), Err("unknown_price /messages/0/content/0".into()));
    let count = chat("gpt-audio", &body).expect("an estimate").input;
    assert!((375..600).contains(&count), "{count}");
    let spoken = json!({ "messages": [], "max_tokens": 1, "modalities": ["text", "audio"] });
    assert_eq!(chat("gpt-4o", &spoken), Err("unknown_price ".into()));
    assert!(chat("gpt-audio", &spoken).is_ok());
}

#[test]
fn files_can_fill_the_context() {
    let file = json!([{ "role": "user", "content": [{ "type": "file", "file": { "file_id": "file-1" } }] }]);
    assert_eq!(input("gpt-4o", &file), 128_000);
}

#[test]
fn tools_are_counted_and_their_schemas_looked_at() {
    let with = |parameters: Value| {
        let tool = json!({ "type": "function", "function": { "name": "f", "parameters": parameters } });
        chat("gpt-4o", &json!({ "messages": [], "max_tokens": 1, "tools": [tool] }))
    };
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    assert!(with(schema.clone()).expect("an estimate").input > 100);
    assert!(with(Value::Null).is_ok());
    assert!(
        with(json!({ "$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": true }))
            .is_ok()
    );
    for wrong in [
        json!("object"),
        json!([]),
        json!({ "type": "objekt" }),
        json!({ "type": "object", "required": "city" }),
        json!({ "properties": { "a": 7 } }),
    ] {
        assert_eq!(with(wrong.clone()), Err("invalid_request /tools/0/function/parameters".into()), "{wrong}");
    }
    let tools = |tools: Value| chat("gpt-4o", &json!({ "messages": [], "max_tokens": 1, "tools": tools }));
    assert_eq!(tools(json!({})), Err("invalid_request /tools".into()));
    assert_eq!(tools(json!(["f"])), Err("invalid_request /tools/0".into()));
    assert_eq!(tools(json!([{ "type": "function" }])), Err("invalid_request /tools/0/function".into()));
    assert_eq!(tools(json!([{ "type": "web_search" }])), Err("unknown_price /tools/0".into()));
    let functions =
        json!({ "messages": [], "max_tokens": 1, "functions": [{ "name": "f", "parameters": { "type": 1 } }] });
    assert_eq!(chat("gpt-4o", &functions), Err("invalid_request /functions/0/parameters".into()));
    let responses = json!({ "input": "a", "tools": [{ "type": "function", "name": "f", "parameters": 7 }] });
    assert_eq!(estimated(Endpoint::Responses, "gpt-4o", &responses), Err("invalid_request /tools/0/parameters".into()));
}

#[test]
fn what_costs_more_than_tokens_is_refused() {
    let with = |name: &str, value: Value| {
        let mut body = json!({ "messages": [], "max_tokens": 1 });
        body[name] = value;
        chat("gpt-4o", &body)
    };
    assert_eq!(with("service_tier", json!("priority")), Err("unknown_price ".into()));
    assert!(with("service_tier", json!("flex")).is_ok());
    assert_eq!(with("web_search_options", json!({})), Err("unknown_price ".into()));
    assert!(with("web_search_options", Value::Null).is_ok());
    assert_eq!(chat("text-embedding-3-small", &json!({ "messages": [] })), Err("unknown_price ".into()));
    assert_eq!(chat("whisper-1", &json!({ "messages": [] })), Err("unknown_price ".into()));
}

#[test]
fn a_model_of_which_nothing_is_known_needs_a_limit() {
    let price = Price::ceiling(Usd::from_nano(1_000_000_000), Usd::from_nano(1_000_000_000));
    let told = |body: &Value| estimate(Endpoint::ChatCompletions, &fields(body), &price);
    let unlimited = json!({ "messages": [{ "role": "user", "content": "hello" }] });
    assert_eq!(told(&unlimited).expect_err("no limit").errors()[0].pointer, "/max_tokens");
    let limited = json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 7 });
    let known = told(&limited).expect("an estimate");
    assert_eq!((known.input, known.output), (16 + 4 + 5 + 16, 7));
}

#[test]
fn responses_are_counted() {
    let count = |body: Value| estimated(Endpoint::Responses, "gpt-4o", &body).map(|it| (it.input, it.output));
    assert_eq!(count(json!({ "input": "hello", "max_output_tokens": 5 })), Ok((8, 5)));
    assert_eq!(count(json!({ "input": "hello", "instructions": "hello", "max_output_tokens": 5 })), Ok((13, 5)));
    let items = json!([
        { "role": "user", "content": "hello" },
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hello" },
          { "type": "input_image", "image_url": "data:image/png;base64,AAAA" }] },
        { "type": "function_call_output", "call_id": "c", "output": "hello" },
    ]);
    let (input, _) = count(json!({ "input": items, "max_output_tokens": 5 })).expect("an estimate");
    assert!((1445..1600).contains(&input), "{input}");
    for open in [
        json!({ "input": "a", "previous_response_id": "resp_1" }),
        json!({ "input": [{ "type": "item_reference", "id": "x" }] }),
        json!({ "input": [{ "role": "user", "content": [{ "type": "input_file", "file_id": "f" }] }] }),
        json!({ "prompt": { "id": "pmpt_1" } }),
    ] {
        assert_eq!(count(open.clone()).expect("an estimate").0, 128_000, "{open}");
    }
    assert_eq!(count(json!({ "input": 7 })), Err("invalid_request /input".into()));
    assert_eq!(count(json!({ "input": ["a"] })), Err("invalid_request /input/0".into()));
    assert_eq!(
        count(json!({ "input": "a", "max_output_tokens": 0 })),
        Err("invalid_request /max_output_tokens".into())
    );
}

#[test]
fn embeddings_are_counted() {
    let count = |input: Value| {
        let body = json!({ "input": input });
        estimated(Endpoint::Embeddings, "text-embedding-3-small", &body).map(|it| (it.input, it.output))
    };
    assert_eq!(count(json!("hello world")), Ok((2, 0)));
    assert_eq!(count(json!(["hello world", "hello"])), Ok((3, 0)));
    assert_eq!(count(json!([1, 2, 3])), Ok((3, 0)));
    assert_eq!(count(json!([[1, 2, 3], [4]])), Ok((4, 0)));
    assert_eq!(count(json!([])), Ok((0, 0)));
    assert_eq!(count(json!("hello ".repeat(9000))), Err("context_length_exceeded /input".into()));
    assert_eq!(count(json!(["a", "hello ".repeat(9000)])), Err("context_length_exceeded /input/1".into()));
    for wrong in [json!(null), json!(7), json!({})] {
        assert_eq!(count(wrong.clone()), Err("invalid_request /input".into()), "{wrong}");
    }
    assert_eq!(count(json!(["a", 7])), Err("invalid_request /input/1".into()));
    assert_eq!(count(json!([-1])), Err("invalid_request /input/0".into()));
}

#[test]
fn audio_is_bounded_by_its_bytes() {
    let part = |name: &str, bytes: usize| Part {
        name: name.into(),
        file_name: None,
        content_type: None,
        body: vec![0; bytes].into(),
    };
    let form = Form { parts: vec![part("file", 500_000), part("model", 9)] };
    let told = |model: &str| estimate_form(Endpoint::AudioTranscriptions, &form, &price(model));
    assert_eq!(told("whisper-1").expect("an estimate").input, 1001);
    let by_tokens = told("gpt-4o-transcribe").expect("an estimate");
    assert_eq!((by_tokens.input, by_tokens.output), (18_000, 2000));
    assert_eq!(told("gpt-4o").expect_err("no price").code(), "unknown_price");
    let none = Form { parts: vec![part("model", 9)] };
    let refused = estimate_form(Endpoint::AudioTranscriptions, &none, &price("whisper-1")).expect_err("no file");
    assert_eq!(refused.errors()[0].pointer, "/file");

    let speech = |model: &str| estimated(Endpoint::AudioSpeech, model, &json!({ "input": "Grüße", "voice": "a" }));
    assert_eq!(speech("tts-1").map(|it| (it.input, it.most.to_string())), Ok((5, "0.000075".into())));
    assert!(speech("gpt-4o-mini-tts").expect("an estimate").output >= 50);
    assert_eq!(speech("gpt-4o"), Err("unknown_price ".into()));
    assert_eq!(estimated(Endpoint::AudioSpeech, "tts-1", &json!({})), Err("invalid_request /input".into()));
}

#[test]
fn output_is_limited_in_the_field_that_counts() {
    use Endpoint::{ChatCompletions, Embeddings, Responses};
    let limited = |endpoint, body: Value, limit| {
        let mut body = fields(&body);
        with_output_limit(endpoint, &mut body, limit);
        serde_json::to_value(&body).expect("JSON")
    };
    assert_eq!(limited(ChatCompletions, json!({ "model": "gpt-4o" }), 9)["max_tokens"], 9);
    assert_eq!(limited(ChatCompletions, json!({ "model": "openai/gpt-5-mini" }), 9)["max_completion_tokens"], 9);
    assert_eq!(
        limited(ChatCompletions, json!({ "model": "m", "max_tokens": 99, "max_completion_tokens": null }), 9),
        json!({ "model": "m", "max_tokens": 9, "max_completion_tokens": null })
    );
    assert_eq!(limited(ChatCompletions, json!({ "max_tokens": 5 }), 9), json!({ "max_tokens": 5 }));
    assert_eq!(limited(ChatCompletions, json!({ "max_tokens": 99, "n": 4 }), 9), json!({ "max_tokens": 9, "n": 4 }));
    assert_eq!(limited(ChatCompletions, json!({ "n": 4 }), 0), json!({ "max_tokens": 1, "n": 4 }));
    assert_eq!(limited(Responses, json!({}), 9), json!({ "max_output_tokens": 9 }));
    assert_eq!(limited(Embeddings, json!({}), 9), json!({}));
}

/// What the provider reads of a message, whatever frame it gives it, counted by
/// the vocabulary.
fn read_by_the_provider(vocabulary: Vocabulary, messages: &[(String, Vec<String>, Option<String>)]) -> u64 {
    let of = |(role, texts, name): &(String, Vec<String>, Option<String>)| {
        let name = name.as_ref().map_or(0, |name| vocabulary.count(name) + 1);
        // Parts may be read one by one or joined.
        let parts: u64 = texts.iter().map(|text| vocabulary.count(text)).sum();
        3 + vocabulary.count(role) + parts.max(vocabulary.count(&texts.concat())) + name
    };
    messages.iter().map(of).sum::<u64>() + 3
}

proptest! {
    #[test]
    fn no_provider_counts_more(
        messages in proptest::collection::vec(("\\PC*", proptest::collection::vec(any::<String>(), 0..4), proptest::option::of("\\PC*")), 0..4),
    ) {
        let body = messages.iter().map(|(role, texts, name)| {
            let parts: Vec<_> = texts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
            json!({ "role": role, "content": parts, "name": name })
        });
        let body = json!({ "messages": body.collect::<Vec<_>>(), "max_tokens": 1 });
        for (model, vocabulary) in [("gpt-4o", Vocabulary::O200k), ("gpt-3.5-turbo", Vocabulary::Cl100k)] {
            let most = chat(model, &body).expect("an estimate").input;
            prop_assert!(most >= read_by_the_provider(vocabulary, &messages), "{model}");
            let bytes = chat("claude-haiku-4-5", &body).expect("an estimate").input;
            prop_assert!(bytes >= read_by_the_provider(vocabulary, &messages), "by bytes");
        }
    }

    #[test]
    fn strings_are_counted_exactly(role in "[a-z]{1,9}", text: String) {
        let vocabulary = Vocabulary::O200k;
        let body = json!([{ "role": role, "content": text }]);
        prop_assert_eq!(input("gpt-4o", &body), read_by_the_provider(vocabulary, &[(role, vec![text], None)]));
    }

    #[test]
    fn any_body_is_answered(name in "messages|input|tools|functions|instructions|max_tokens|n|prediction", value in json_of_any_kind()) {
        let mut body = json!({ "messages": [], "input": "", "max_tokens": 1 });
        body[&name] = value;
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Embeddings, Endpoint::AudioSpeech] {
            for model in ["gpt-4o", "claude-haiku-4-5", "text-embedding-3-small", "tts-1"] {
                let _ = estimated(endpoint, model, &body);
            }
        }
    }

    #[test]
    fn a_limited_call_costs_no_more_than_its_limit(limit in 1..100_000_u64, n in 1..9_u64, asked in proptest::option::of(1..16_384_u64)) {
        let mut body = fields(&json!({ "messages": [], "n": n, "max_tokens": asked }));
        with_output_limit(Endpoint::ChatCompletions, &mut body, limit);
        let price = Price::new(&Sheet {
            input_usd_per_million: Some(Usd::from_nano(1)),
            output_usd_per_million: Some(Usd::from_nano(1)),
            ..Sheet::default()
        }, Vocabulary::Unknown).expect("a price");
        let output = estimate(Endpoint::ChatCompletions, &body, &price).expect("an estimate").output;
        prop_assert!(output <= limit * n);
        prop_assert!(asked.is_none_or(|asked| output <= asked * n));
    }
}

/// Values with the names that are looked for in them.
fn json_of_any_kind() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC*".prop_map(Value::from),
    ];
    let name = "role|content|type|text|name|image_url|input_audio|data|file|function|parameters|tool_calls|[a-z]";
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
