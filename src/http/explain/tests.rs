//! Every kind of fault, in the words that a client reads.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::money::Usd;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its reading is tested")]
struct All {
    text: Option<String>,
    flag: Option<bool>,
    tiny: Option<i8>,
    byte: Option<u8>,
    word: Option<u32>,
    long: Option<i64>,
    size: Option<usize>,
    some: Option<NonZeroU8>,
    #[schemars(range(min = 0, max = 20))]
    ranged: Option<u32>,
    #[schemars(range(min = 0.5, max = 2))]
    fraction: Option<f64>,
    list: Option<Vec<u16>>,
    map: Option<BTreeMap<String, bool>>,
    kind: Option<Kind>,
    told: Option<Told>,
    choice: Option<Choice>,
    inner: Option<Inner>,
    pair: Option<(u8, String)>,
    at: Option<Timestamp>,
    usd: Option<Usd>,
    raw: Option<Box<RawValue>>,
    unit: Option<()>,
    letter: Option<char>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    First,
    SecondOne,
}

/// Each is described, which makes another schema of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// This.
    One,
    /// That.
    Other,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its reading is tested")]
enum Choice {
    Number(u8),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its reading is tested")]
struct Inner {
    needed: String,
}

fn told(body: &str) -> (String, String) {
    let error = serde_json::from_str::<All>(body).err().unwrap_or_else(|| serde::de::Error::custom("an array"));
    let problem = explain::<All>(body.as_bytes(), &error);
    let fault = problem.errors().first().cloned().unwrap_or_else(|| panic!("{body}: {problem}"));
    (fault.pointer, fault.detail)
}

#[test]
fn types_have_the_names_of_json() {
    for (member, wrong, expected) in [
        ("text", "5", "must be a string"),
        ("text", "[]", "must be a string"),
        ("flag", "\"yes\"", "must be true or false"),
        ("tiny", "1000", "must be a whole number from -128 to 127"),
        ("tiny", "1.5", "must be a whole number from -128 to 127"),
        ("tiny", "\"1\"", "must be a whole number from -128 to 127"),
        ("byte", "-1", "must be a whole number from 0 to 255"),
        ("word", "4294967296", "must be a whole number from 0 to 4294967295"),
        ("long", "{}", "must be a whole number"),
        ("long", "1e3", "must be a whole number"),
        ("size", "-1", "must be a whole number from 0"),
        ("some", "0", "must be a whole number from 1 to 255"),
        ("ranged", "true", "must be a whole number from 0 to 20"),
        ("ranged", "-1", "must be a whole number from 0 to 20"),
        ("fraction", "\"x\"", "must be a number from 0.5 to 2"),
        ("list", "{}", "must be a list"),
        ("list", "\"x\"", "must be a list"),
        ("map", "[]", "must be an object"),
        ("kind", "\"third\"", "must be one of first, second_one"),
        ("kind", "5", "must be one of first, second_one"),
        ("kind", "[]", "must be one of first, second_one"),
        ("told", "\"x\"", "must be one of one, other"),
        ("told", "true", "must be one of one, other"),
        ("choice", "true", "must be a whole number from 0 to 255 or a list"),
        ("inner", "5", "must be an object"),
        ("pair", "{}", "must be a list"),
        ("pair", "[1]", "must be a list"),
        ("at", "5", "must be a time in RFC 3339 from 1970 on, such as 2030-01-31T09:30:00Z"),
        ("at", "\"soon\"", "must be a time in RFC 3339 from 1970 on, such as 2030-01-31T09:30:00Z"),
        ("usd", "0.5", "must be US dollars as a string such as \"0.75\""),
        ("unit", "1", "must be null"),
        ("letter", "\"ab\"", "must be a string"),
    ] {
        let body = format!("{{\"{member}\":{wrong}}}");
        assert_eq!(told(&body), (format!("/{member}"), expected.to_owned()), "{body}");
    }
}

#[test]
fn a_fault_is_told_where_it_is() {
    for (body, pointer, detail) in [
        (r#"{"list":[1,2,"x"]}"#, "/list/2", "must be a whole number from 0 to 65535"),
        (r#"{"map":{"a/b":1}}"#, "/map/a~1b", "must be true or false"),
        (r#"{"inner":{}}"#, "/inner/needed", "is missing"),
        (r#"{"inner":{"needed":null}}"#, "/inner/needed", "must be a string"),
        (r#"{"inner":{"neded":"x"}}"#, "/inner/neded", "unknown field; did you mean needed?"),
        (r#"{"xyz":1}"#, "/xyz", "unknown field"),
        (r#"{"text":"a","text":"b"}"#, "/text", "is given twice"),
        (r#"{"pair":["x","y"]}"#, "/pair/0", "must be a whole number from 0 to 255"),
        ("5", "", "must be an object, not a number"),
        ("null", "", "must be an object, not null"),
        ("[]", "", "must be an object, not an array"),
    ] {
        assert_eq!(told(body), (pointer.to_owned(), detail.to_owned()), "{body}");
    }
}

#[test]
fn an_unknown_field_has_a_near_one() {
    let told = |name: &str, known: &[&str]| <[String; 2]>::from(unknown(name, known));
    assert_eq!(told("nmae", &["name", "other"]), ["unknown field; did you mean name?", "known are name, other"]);
    assert_eq!(told("xyz", &["name"]), ["unknown field", "known are name"]);
    assert_eq!(told("xyz", &[]), ["unknown field", "no fields are possible here"]);
}

#[test]
fn other_json_is_explained_without_a_schema() {
    let fault = |text: &str| json_fault(&serde_json::from_str::<All>(text).expect_err(text));
    assert_eq!(fault(r#"{"list":5}"#), "must be a list");
    assert_eq!(fault(r#"{"inner":{}}"#), "`needed` is missing");
    assert!(fault(r#"{"txet":{}}"#).starts_with("unknown field `txet`, known are text, flag, "));
    assert!(fault(r#"{"txet":{}}"#).ends_with("; did you mean text?"));
    assert_eq!(fault("{\"text\":nul}"), "expected true, false or null at line 1 column 12");
    assert!(fault("{").starts_with("EOF while parsing an object"));
}

#[test]
fn no_words_of_serde_are_left() {
    let wrong = ["null", "true", "-1", "1.5", "1e99", "\"x\"", "[]", "[[]]", "{}", "{\"x\":1}", "[null]", "[1]"];
    let members = [
        "text", "flag", "tiny", "byte", "word", "long", "size", "some", "ranged", "fraction", "list", "map", "kind",
        "told", "choice", "inner", "pair", "at", "usd", "unit", "letter",
    ];
    for (member, wrong) in members.iter().flat_map(|member| wrong.iter().map(move |wrong| (member, wrong))) {
        let body = format!("{{\"{member}\":{wrong}}}");
        let Err(error) = serde_json::from_str::<All>(&body) else { continue };
        for detail in [told(&body).1, json_fault(&error)] {
            assert!(!is_foreign(&detail), "{body}: {detail}");
        }
    }
}
