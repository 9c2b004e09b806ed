//! What comes of a provider's own responses.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::events::{Events, Source};
use super::super::id::ResponseId;
use super::super::object::{Event, Head};
use super::super::request::{Create, CreateBody};
use super::{Own, Relay};
use crate::clock::Timestamp;

fn events(text: &str, next: i64) -> Vec<Event> {
    let Value::Object(fields) = json!({ "input": "a", "background": next > 0 }) else { panic!("an object") };
    let create = Create::read(CreateBody(fields)).expect("it is fine");
    let id = ResponseId(uuid::Uuid::nil());
    let head = Head::new(id, &create, "m-1", Timestamp::from_micros(1_700_000_000_000_000));
    let mut events = Events::new(Source::Own(Box::new(Relay::new(Own::new(&create, &head), head, next))));
    let mut out = Vec::new();
    events.begin(&mut out);
    events.push(text.as_bytes(), &mut out);
    events.end(&mut out);
    assert!(events.finished().is_some());
    out
}

fn stream(events: &[Value]) -> String {
    let frame = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    events.iter().map(frame).collect()
}

fn kinds(events: &[Event]) -> Vec<(i64, &str)> {
    events.iter().map(|event| (event.seq, event.kind.as_str())).collect()
}

fn provider() -> [Value; 4] {
    let response =
        |status: &str| json!({ "id": "resp_theirs", "object": "response", "status": status, "odd": 1, "output": [] });
    [
        json!({ "type": "response.created", "sequence_number": 0, "response": response("in_progress") }),
        json!({ "type": "response.in_progress", "sequence_number": 1, "response": response("in_progress") }),
        json!({ "type": "response.new.kind", "sequence_number": 2, "odd": [1] }),
        json!({ "type": "response.completed", "sequence_number": 3, "response": response("completed") }),
    ]
}

#[test]
fn responses_are_passed_on_under_our_id() {
    let out = events(&stream(&provider()), 0);
    assert_eq!(kinds(&out).len(), 4);
    for (event, theirs) in out.iter().zip(provider()) {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(
            (&data["type"], &data["sequence_number"], &data["odd"]),
            (&theirs["type"], &theirs["sequence_number"], &theirs["odd"])
        );
        if theirs.get("response").is_some() {
            let response = &data["response"];
            assert_eq!(response["id"], ResponseId(uuid::Uuid::nil()).to_string());
            assert_eq!((&response["odd"], &response["store"]), (&json!(1), &json!(true)), "what we do not know stays");
        }
    }
    assert_eq!(out[2].data, provider()[2].to_string(), "as it came");
}

#[test]
fn a_response_that_has_begun_does_not_begin_again() {
    let out = events(&stream(&provider()), 3);
    assert_eq!(kinds(&out), [(3, "response.new.kind"), (4, "response.completed")]);
}

#[test]
fn a_stream_that_breaks_ends_with_an_event_that_says_so() {
    let broken = |more: Value| {
        let mut all = provider()[..3].to_vec();
        all.push(more);
        let out = events(&stream(&all), 0);
        assert_eq!(kinds(&out).last(), Some(&(3, "response.failed")));
        let data: Value = serde_json::from_str(&out[3].data).expect("JSON");
        assert_eq!(data["response"]["odd"], 1, "what it had shown stays");
        data["response"]["error"]["message"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(broken(json!({ "type": "error", "message": "it is ill" })), "it is ill");
    assert_eq!(broken(json!({ "error": { "message": "the provider cut it" } })), "the provider cut it");
    assert_eq!(broken(json!({ "type": "" })), "the provider broke the answer off");
    assert_eq!(kinds(&events("", 0)), [(0, "response.created"), (1, "response.failed")]);
    assert_eq!(kinds(&events("data: <html>\n\n", 2)), [(2, "response.failed")]);
    assert_eq!(kinds(&events("data: [\"response.new\", 2, null]\n\n", 2)), [(2, "response.failed")]);
}

/// Texts of deltas are joined where a character is split over two of them.
#[test]
fn halves_of_characters_are_joined() {
    let delta = |number: i64, id: &str, text: &str| {
        let fields = format!("\"sequence_number\":{number},\"item_id\":\"{id}\",\"delta\":\"{text}\",\"logprobs\":[]");
        format!("data: {{\"type\":\"response.output_text.delta\",{fields}}}\n\n")
    };
    let deltas = [
        delta(0, "a", "x\\ud83d"),
        delta(1, "a", "\\ude00y"),
        delta(2, "a", "\\uD83D"),
        delta(3, "b", "\\ude00"),
        delta(4, "b", "z\\ud83d\\ude00"),
    ];
    let out = events(&deltas.concat(), 0);
    let said = |event: &Event| serde_json::from_str::<Value>(&event.data).expect("JSON")["delta"].clone();
    let said: Vec<_> = out.iter().take(5).map(said).collect();
    assert_eq!(said, ["x", "😀y", "", "\u{fffd}", "z😀"]);
    assert_eq!(out[4].data, deltas[4].trim_start_matches("data: ").trim_end(), "as it came");
    let odd = "data: {\"type\":\"response.new\",\"a\":NaN,\"b\":\"\\ud83d\"}\n\n";
    let data: Value = serde_json::from_str(&events(odd, 0)[0].data).expect("JSON");
    assert_eq!((&data["a"], &data["b"]), (&Value::Null, &json!("\u{fffd}")));
}

proptest! {
    #[test]
    fn any_order_gives_consecutive_numbers_and_one_end(
        picks in prop::collection::vec(0..6_usize, 0..12), next in prop_oneof![Just(0_i64), Just(3)],
    ) {
        let mut all = provider().to_vec();
        all.push(json!({ "type": "error", "message": "ill" }));
        all.push(json!({ "type": "response.failed", "response": { "status": "failed" } }));
        let picked: Vec<_> = picks.into_iter().map(|pick| all[pick].clone()).collect();
        let out = events(&stream(&picked), next);
        for (place, event) in out.iter().enumerate() {
            prop_assert_eq!(event.seq, next + i64::try_from(place).expect("small"));
            let last = ["response.completed", "response.failed"].contains(&event.kind.as_str());
            prop_assert_eq!(last, place + 1 == out.len());
        }
    }
}
