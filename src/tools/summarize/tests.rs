//! The tool as a whole, and what holds for every input.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::jobs::Outcome;

fn ask(input: &Value) -> Outcome {
    super::run(&crate::tools::tests::call(&input.to_string(), Clock::system()))
}

fn answer(input: &Value) -> Value {
    serde_json::from_str(&ask(input).expect("a summary")).expect("JSON")
}

fn slice(text: &str, start: &Value, end: &Value) -> String {
    let number = |value: &Value| usize::try_from(value.as_u64().expect("a number")).expect("small");
    text.chars().skip(number(start)).take(number(end) - number(start)).collect()
}

#[test]
fn the_shape_of_an_answer() {
    let input = json!({
        "documents": [
            { "text": "# Title\n\nÆgir brewed **strong** ale for the gods. It was good.", "url": "http://a.test/", "title": "A" },
            { "text": "The gods drank the ale from a deep cauldron." }
        ],
        "max_sentences": 2
    });
    insta::assert_json_snapshot!(answer(&input), @r#"
    {
      "citations": [
        {
          "document": 0,
          "end": 49,
          "n": 1,
          "start": 9,
          "title": "A",
          "url": "http://a.test/"
        },
        {
          "document": 1,
          "end": 44,
          "n": 2,
          "start": 0,
          "title": null,
          "url": null
        }
      ],
      "sentences": [
        {
          "document": 0,
          "end": 49,
          "score": 1.0,
          "start": 9,
          "text": "Ægir brewed **strong** ale for the gods."
        },
        {
          "document": 1,
          "end": 44,
          "score": 1.0,
          "start": 0,
          "text": "The gods drank the ale from a deep cauldron."
        }
      ],
      "summary": "Ægir brewed strong ale for the gods. [1] The gods drank the ale from a deep cauldron. [2]"
    }
    "#);
}

#[test]
fn a_text_without_a_sentence_cannot_be_summarised() {
    assert_eq!(ask(&json!({ "text": " \n " })).expect_err("nothing").code, "nothing_to_summarize");
    assert_eq!(ask(&json!({ "text": "--- ***" })).expect_err("nothing").code, "nothing_to_summarize");
    let documents = vec![json!({ "text": "x".repeat(500_000) }); 5];
    assert_eq!(ask(&json!({ "documents": documents })).expect_err("too much").code, "text_too_large");
}

#[test]
fn the_schema_asks_for_one_of_text_and_documents() {
    let mut registry = crate::jobs::Registry::default();
    registry.add(super::tool()).expect("added");
    let place = registry.find("web.summarize").expect("known");
    let fits = |input: Value| registry.faults(place, &input.to_string()).is_empty();
    assert!(fits(json!({ "text": "x" })));
    assert!(fits(json!({ "documents": [{ "text": "x", "url": "http://a.test/", "title": "t" }], "query": "q" })));
    for wrong in [
        json!({}),
        json!({ "text": "" }),
        json!({ "text": "x", "documents": [{ "text": "x" }] }),
        json!({ "documents": [] }),
        json!({ "text": "x", "max_sentences": 0 }),
        json!({ "text": "x", "max_sentences": 31 }),
        json!({ "text": "x", "sentences": 3 }),
        json!({ "text": "x".repeat(500_001) }),
    ] {
        assert!(!fits(wrong.clone()), "{}", wrong.to_string().chars().take(80).collect::<String>());
    }
}

/// Inputs that make a careless parser or ranking slow.
#[test]
fn large_and_hostile_texts_are_done() {
    let long = |piece: &str| piece.repeat(500_000 / piece.chars().count());
    let pieces = [
        "a. ",
        "[",
        "![](",
        "> ",
        "- ",
        "*a ",
        "`",
        "| a ",
        "\n\n",
        "<",
        "&amp;",
        "a b c d e f g h. ",
        "[a]: b\n",
        "字",
    ];
    for piece in pieces {
        let (done, wait) = std::sync::mpsc::channel();
        let input = json!({ "text": long(piece), "max_sentences": 30 });
        std::thread::spawn(move || done.send(ask(&input)));
        assert!(wait.recv_timeout(Duration::from_secs(60)).is_ok(), "{piece:?} is not done");
    }
}

/// Text of words, marks and markup, in several scripts.
fn some_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zæøå]{1,9} ",
        2 => "[A-Z][a-z]{0,5}\\. ",
        1 => "(\\*\\*|_|`|\\[|\\]|\\(|\\)|# |\n|\n\n|- |> |&amp;|\\||\r\n|    |```\n|<b>|\\[3\\]|!|\\?|\\\\)",
        1 => "[今日は天気がいい。กขค😀é]{1,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_quote_is_where_it_is_said_to_be(
        texts in proptest::collection::vec(some_text(), 1..4),
        max_sentences in 1_usize..8,
        query in "[a-z ]{0,20}",
    ) {
        let documents: Vec<Value> = texts.iter().map(|text| json!({ "text": text })).collect();
        let input = json!({ "documents": documents, "max_sentences": max_sentences, "query": query });
        let outcome = ask(&input);
        prop_assert_eq!(&outcome, &ask(&input), "not the same twice");
        let Ok(output) = outcome else { return Ok(()) };
        let output: Value = serde_json::from_str(&output).expect("JSON");
        let sentences = output["sentences"].as_array().expect("a list");
        prop_assert!(!sentences.is_empty() && sentences.len() <= max_sentences);
        let mut before = (0, 0);
        for (at, sentence) in sentences.iter().enumerate() {
            let document = usize::try_from(sentence["document"].as_u64().expect("a number")).expect("small");
            let quoted = slice(&texts[document], &sentence["start"], &sentence["end"]);
            prop_assert_eq!(sentence["text"].as_str(), Some(quoted.as_str()));
            let start = sentence["start"].as_u64().expect("a number");
            prop_assert!((document, start) >= before, "not in the order of the documents");
            before = (document, sentence["end"].as_u64().expect("a number"));
            let score = sentence["score"].as_f64().expect("a number");
            prop_assert!((0.0..=1.0).contains(&score), "{}", score);
            let citation = &output["citations"][at];
            prop_assert_eq!(&citation["n"], &json!(at + 1));
            prop_assert_eq!(&citation["start"], &sentence["start"]);
            let mark = format!(" [{}]", at + 1);
            prop_assert!(output["summary"].as_str().expect("text").contains(&mark));
        }
    }
}
