//! Forms that are written are read as they were; others are refused with the
//! place of the fault.

use std::time::Duration;

use futures_util::stream;
use proptest::prelude::*;

use super::*;
use crate::http::Problem;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn read(boundary: &str, body: &[u8], piece: usize, limit: u64) -> Result<Form, Problem> {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let limits = FormLimits { bytes: limit, stall: Duration::from_secs(30) };
    block_on(async { FormReader::new(boundary, stream::iter(pieces), limits).whole().await })
}

fn boundary_of(content_type: &str) -> &str {
    content_type.split_once("boundary=").expect("a boundary").1
}

fn part() -> impl Strategy<Value = Part> {
    let name = "[a-z\\[\\]ä;= ]{1,12}";
    let file = prop::option::of("[a-zA-Z0-9._ ü;=-]{0,16}");
    let kind = prop::option::of(prop::sample::select(vec!["audio/wav", "text/plain; charset=utf-8"]));
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        // What looks like a part of a boundary.
        prop::collection::vec(prop::sample::select(b"\r\n-agentd".to_vec()), 0..60),
    ];
    (name, file, kind, body).prop_map(|(name, file_name, kind, body)| Part {
        name,
        file_name,
        content_type: kind.map(str::to_owned),
        body: body.into(),
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(parts in prop::collection::vec(part(), 0..6), piece in 1_usize..90) {
        let (kind, body) = Form { parts: parts.clone() }.encode("the model");
        let read = read(boundary_of(&kind), &body, piece, 1 << 20).expect("a form");
        prop_assert_eq!(read.text("model"), Some("the model"));
        let others: Vec<_> = read.parts.into_iter().skip(1).collect();
        let expected: Vec<_> = parts.into_iter().filter(|part| part.name != "model").collect();
        prop_assert_eq!(others, expected);
    }

    #[test]
    fn no_bytes_are_too_strange(body in prop::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
        let _ = read("x", &body, piece, 300);
    }
}

#[test]
fn faults_name_their_place() {
    let part = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc";
    let fault = |body: &str, limit| read("x", body.as_bytes(), 7, limit).expect_err("it is refused").to_string();
    assert_eq!(fault(part, 1 << 20), "incomplete_body: the form ends in the middle of part 1 (file)");
    assert_eq!(fault(&format!("{part}\r\n--x--"), 50), "payload_too_large: the body is larger than 50 bytes");
    assert_eq!(fault("", 9), "incomplete_body: the form ends in the middle of part 1");
    let nameless = "--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--";
    assert!(fault(nameless, 1 << 20).contains("part 1 of the form needs a name"));
    let many = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".repeat(65);
    assert!(fault(&format!("{many}--x--"), 1 << 20).contains("more than 64 parts"));
}

#[test]
fn a_head_without_end_is_not_kept() {
    for endless in ["--x\r\nContent-Disposition: ".to_owned() + &"a".repeat(1 << 20), "-".repeat(1 << 20)] {
        let fault = read("x", endless.as_bytes(), 1000, 1 << 30).expect_err("it is refused");
        assert!(fault.to_string().contains("longer than 16384 bytes"), "{fault}");
    }
}

#[test]
fn names_cannot_break_out_of_their_quotation_marks() {
    let evil = "a\"\r\nX-Evil: 1\\";
    let part = Part { name: "f".into(), file_name: Some(evil.into()), content_type: None, body: Bytes::new() };
    let (kind, body) = Form { parts: vec![part] }.encode("m");
    let read = read(boundary_of(&kind), &body, 11, 1 << 20).expect("a form");
    assert_eq!(read.file("f").and_then(|part| part.file_name.as_deref()), Some("a___X-Evil: 1_"));
}
