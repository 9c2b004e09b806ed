//! What is repaired, and that nothing else is.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &[u8]) -> Option<Value> {
    parse(text).ok()
}

#[test]
fn what_providers_write_wrong_is_read() {
    let cases: [(&[u8], Value); 26] = [
        (b"\xef\xbb\xbf{\"a\":1}", json!({ "a": 1 })),
        (br#"{"a":NaN,"b":[Infinity,-Infinity]}"#, json!({ "a": null, "b": [null, null] })),
        (b"[nan,-NaN,inf,-inf,+Infinity,INF]", json!([null, null, null, null, null, null])),
        (b"[1e999,-1e999,1e5,2.5E-3]", json!([null, null, 1e5, 2.5e-3])),
        (br#"["NaN","-Infinity",{"NaN":1}]"#, json!(["NaN", "-Infinity", { "NaN": 1 }])),
        (br#"["\ud83d"]"#, json!(["\u{fffd}"])),
        (br#"["\ud83d\ude00"]"#, json!(["😀"])),
        (br#"["\uD83D\uDE00\uD83D"]"#, json!(["😀\u{fffd}"])),
        (br#"["\ude00\ud83d"]"#, json!(["\u{fffd}\u{fffd}"])),
        (br#"["\ud83dx\ude00"]"#, json!(["\u{fffd}x\u{fffd}"])),
        (br#"["\ud83d\u0041"]"#, json!(["\u{fffd}A"])),
        (br#"["\\ud83d"]"#, json!(["\\ud83d"])),
        (br#"{"\ud83d":1}"#, json!({ "\u{fffd}": 1 })),
        // The same as the bytes of "UTF-8" that has them.
        (b"[\"\xed\xa0\xbd\xed\xb8\x80\"]", json!(["😀"])),
        (b"[\"\xed\xa0\xbd\\ude00\"]", json!(["😀"])),
        (b"[\"\xed\xa0\xbd\"]", json!(["\u{fffd}"])),
        (b"[\"a\xffb\xc3\xa9\xf0\x9f\x98\"]", json!(["a\u{fffd}bé\u{fffd}"])),
        (b"[\"\xf0\x9f\x98\x80\xff\"]", json!(["😀\u{fffd}"])),
        (b"[\"\xff\x00\"]", json!(["\u{fffd}\u{0}"])),
        (b"[\"\xffa\"]", json!(["\u{fffd}a"])),
        (b"[\"a\nb\tc\x00d\"]", json!(["a\nb\tc\u{0}d"])),
        (b"{\"a\":\x0b1}\x00\x00", json!({ "a": 1 })),
        (br#"["\x41\'\u12\d"]"#, json!(["\\x41\\'\\u12\\d"])),
        (br#"["\u12"]"#, json!(["\\u12"])),
        (b"[\"a\\\nb\"]", json!(["a\\\nb"])),
        (b"[\"\\\xff\"]", json!(["\\\u{fffd}"])),
    ];
    for (text, value) in cases {
        assert_eq!(read(text), Some(value), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn what_is_no_json_stays_none() {
    for text in ["", "{", "<html>", "[\"\\ud83d", "{\"a\":NaN", "nonsense", "[1,]", "[\"a\\"] {
        assert_eq!(read(text.as_bytes()), None, "{text}");
    }
    let error = parse::<Value>(b"[NaN, x]").expect_err("it is none");
    assert_eq!((error.line(), error.column()), (1, 2), "as it came");
}

#[test]
fn halves_meet_across_parts() {
    let join = |parts: &[&str]| {
        let mut halves = Halves::default();
        let read = |part: &&str| {
            let part = parse_part(format!("\"{part}\"").as_bytes()).expect("JSON");
            halves.join(part.value.as_str().expect("text"), part.has_halves).into_owned()
        };
        let joined: Vec<_> = parts.iter().map(read).collect();
        (joined, halves.rest())
    };
    let said = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    assert_eq!(join(&["a\\ud83d", "\\ude00b"]), (said(&["a", "😀b"]), None));
    assert_eq!(join(&["\\ud83d", "", "\\ude00"]), (said(&["", "", "😀"]), None));
    assert_eq!(join(&["\\ud83d", "b"]), (said(&["", "\u{fffd}b"]), None));
    assert_eq!(join(&["\\ud83d", "\\ud83d", "\\ude00"]), (said(&["", "\u{fffd}", "😀"]), None));
    assert_eq!(join(&["\\ude00", "\\ud83d"]), (said(&["\u{fffd}", ""]), Some('\u{fffd}')));
}

#[test]
fn marks_are_nobodys_text() {
    // What looks like a mark is text where nothing had to be repaired.
    let text = format!("{MARK}\u{10d83d}");
    let part = parse_part(json!(text).to_string().as_bytes()).expect("JSON");
    assert!(!part.has_halves);
    assert_eq!(Halves::default().join(&text, false), text);
    let mut value = parse_part(br#"{"\ud83d":["\ud83d",{"a":"\ude00"}]}"#).expect("JSON").value;
    settle_value(&mut value);
    assert_eq!(value, json!({ "\u{fffd}": ["\u{fffd}", { "a": "\u{fffd}" }] }));
    // Two that were kept one after the other meet.
    let halves = [r#""\ud83d""#, r#""\ude00""#].map(|half| parse_part(half.as_bytes()).expect("JSON").value);
    let kept: String = halves.iter().filter_map(Value::as_str).collect();
    assert_eq!(settle(&kept), "😀");
}

#[test]
fn it_takes_one_pass() {
    let defects = "\\ud83d\\x\u{1}".repeat(200_000);
    let text = [b"[\"", defects.as_bytes(), b"\xff\"]"].concat();
    let repaired = repair(&text);
    assert!(repaired.len() <= 6 * text.len());
    assert!(serde_json::from_slice::<Value>(&repaired).is_ok());
    let deep = "[".repeat(1 << 20);
    assert!(matches!(repair(deep.as_bytes()), Cow::Borrowed(_)), "no recursion");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-zé😀\"\\\\\n/]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

/// Pieces of a string in a document, some of which no string may have.
fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z é😀]{0,4}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "\\n",
            "\\\"",
            "\\\\",
            "\\u00e9",
            "\\ud83d",
            "\\ude00",
            "\\ud83d\\ude00",
            "\\x",
            "\\u1"
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        (0..0x20_u8).prop_map(|byte| vec![byte]),
        prop::collection::vec(0x80..=0xff_u8, 1..4),
    ]
}

proptest! {
    #[test]
    fn valid_documents_are_left_as_they_are(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        let text = text.expect("JSON");
        prop_assert!(matches!(repair(&text), Cow::Borrowed(_)));
        prop_assert_eq!(read(&text), Some(value));
    }

    #[test]
    fn what_a_strict_reader_takes_is_left_as_it_is(text in "[\\[\\]{}:,\" \\\\a-fnu0-9eE+.-]{0,24}") {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            prop_assert!(matches!(repair(text.as_bytes()), Cow::Borrowed(_)));
            prop_assert_eq!(read(text.as_bytes()), Some(value));
        }
    }

    #[test]
    fn a_document_with_such_defects_is_always_read(
        pieces in prop::collection::vec(any_piece(), 0..8), mark: bool,
        number in prop::sample::select(vec!["NaN", "-Infinity", "Infinity", "1e400", "1", "-inf"]),
    ) {
        let mut text = if mark { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
        text.extend_from_slice(b"{\"a\":\"");
        text.extend(pieces.concat());
        text.extend_from_slice(b"\",\"b\":[");
        text.extend_from_slice(number.as_bytes());
        text.extend_from_slice(b"]}");
        let repaired = repair(&text).into_owned();
        let strict = serde_json::from_slice::<Value>(&repaired);
        prop_assert!(strict.is_ok(), "{}", String::from_utf8_lossy(&repaired));
        prop_assert_eq!(read(&text), strict.ok());
        prop_assert!(matches!(repair(&repaired), Cow::Borrowed(_)), "once is enough");
        // Kept in halves and settled, it is the same.
        let mut part = parse_part(&text).expect("JSON").value;
        settle_value(&mut part);
        prop_assert_eq!(Some(part), read(&text));
    }

    #[test]
    fn no_bytes_bring_it_down(bytes: Vec<u8>, has_halves: bool) {
        let _ = (repair(&bytes), read(&bytes), parse_part(&bytes).map(|part| part.value));
        let text = String::from_utf8_lossy(&bytes);
        let _ = (settle(&text), Halves::default().join(&text, has_halves));
    }
}
