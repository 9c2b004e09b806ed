//! What the provider does with a request, as a test wants it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::books::Used;

/// One answer. Without further words it is a good one, at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// A `Retry-After` that is a date, so many seconds from the answer.
    pub(super) retry_at: Option<i64>,
    pub(super) latency_ms: u64,
    pub(super) pause_ms: u64,
    pub(super) chunks: Option<usize>,
    pub(super) text: Option<String>,
    pub(super) used: Option<Used>,
    pub(super) beyond_limits: bool,
    pub(super) usage: Usage,
    pub(super) calls: Vec<(String, Value)>,
    pub(super) use_tools: bool,
    pub(super) refusal: Option<String>,
    pub(super) extra: Option<Value>,
    pub(super) body: Option<(String, String)>,
    /// The same in bytes that need not be text.
    #[serde(skip)]
    pub(super) bytes: Option<(String, Vec<u8>)>,
    pub(super) fault: Fault,
    pub(super) pieces: Option<usize>,
    pub(super) bill: Option<bool>,
    #[serde(skip)]
    pub(super) gate: Option<(usize, Gate)>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            retry_at: None,
            latency_ms: 0,
            pause_ms: 0,
            chunks: None,
            text: None,
            used: None,
            beyond_limits: false,
            usage: Usage::Right,
            calls: Vec::new(),
            use_tools: false,
            refusal: None,
            extra: None,
            body: None,
            bytes: None,
            fault: Fault::None,
            pieces: None,
            bill: None,
            gate: None,
        }
    }
}

/// What it says of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// What is on the bill.
    Right,
    /// Nothing.
    Missing,
    /// Something that is no usage.
    Nonsense,
}

/// Where it goes wrong. In a stream a place is so many pieces of content; in
/// any other answer everything above 0 is the middle of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It does not.
    None,
    /// Nothing is answered for as long as the client waits.
    HangBefore,
    /// The head and so much are sent, and then nothing.
    HangAfter(usize),
    /// The connection ends without an answer.
    CutBefore,
    /// It ends after so much.
    CutAfter(usize),
    /// The stream says after so much that something went wrong, and ends.
    ErrorAfter(usize),
    /// The stream ends properly, but without the words that say so.
    NoEnd,
}

impl Script {
    /// A good answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A good answer with this text. Unless said otherwise each of its words is
    /// a token.
    pub fn reply(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    /// A good answer for which so many tokens are reported and billed. Its text
    /// is as many words, which both of OpenAI's vocabularies count as one each.
    pub fn tokens(input: u64, output: u64) -> Self {
        Self::default().used(input, output)
    }

    /// An error in the provider's words.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// 429, to be tried again in so many seconds.
    pub fn busy(seconds: u64) -> Self {
        Self::status(429).header("Retry-After", &seconds.to_string())
    }

    /// 429, to be tried again at a moment so many seconds from the answer.
    pub fn busy_until(seconds: i64) -> Self {
        Self { retry_at: Some(seconds), ..Self::status(429) }
    }

    /// A page of HTML, as a proxy before the provider sends it.
    pub fn html(status: u16) -> Self {
        let page = "<html><head><title>Oops</title></head><body><h1>Something is wrong</h1></body></html>";
        Self { bill: Some(false), ..Self::status(status) }.body("text/html; charset=utf-8", page)
    }

    /// 200, and a body that is cut JSON.
    pub fn invalid_json() -> Self {
        Self::default().body("application/json", r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"#)
    }

    /// Nothing is ever answered.
    pub fn hang() -> Self {
        Self::fault(Fault::HangBefore)
    }

    pub fn fault(fault: Fault) -> Self {
        Self::default().with_fault(fault)
    }

    pub fn with_fault(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    pub fn used(self, input: u64, output: u64) -> Self {
        let used = self.used.unwrap_or_default();
        Self { used: Some(Used { input, output, ..used }), ..self }
    }

    /// So many tokens of the input were cached.
    pub fn cached(self, cached: u64) -> Self {
        Self { used: Some(Used { cached, ..self.used.unwrap_or_default() }), ..self }
    }

    /// So many tokens of the output were reasoning.
    pub fn reasoning(self, reasoning: u64) -> Self {
        Self { used: Some(Used { reasoning, ..self.used.unwrap_or_default() }), ..self }
    }

    /// So long was the sound.
    pub fn seconds(self, seconds: u64) -> Self {
        Self { used: Some(Used { seconds, ..self.used.unwrap_or_default() }), ..self }
    }

    /// More output than the request allows is sent and billed, where the script
    /// says so.
    pub fn beyond_limits(self) -> Self {
        Self { beyond_limits: true, ..self }
    }

    /// What it says of the tokens.
    pub fn usage(self, usage: Usage) -> Self {
        Self { usage, ..self }
    }

    /// Calls of tools instead of a text.
    pub fn calls(self, name: &str, arguments: Value) -> Self {
        let mut calls = self.calls;
        calls.push((name.to_owned(), arguments));
        Self { calls, ..self }
    }

    /// Calls the first tool that it is given, with arguments that fit, until
    /// the last message is the outcome of one.
    pub fn use_tools(self) -> Self {
        Self { use_tools: true, ..self }
    }

    /// Refuses to answer, in these words.
    pub fn refuses(self, refusal: &str) -> Self {
        Self { refusal: Some(refusal.to_owned()), ..self }
    }

    /// A field of the answer that nobody knows.
    pub fn extra(self, value: Value) -> Self {
        Self { extra: Some(value), ..self }
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        let mut headers = self.headers;
        headers.push((name.to_owned(), value.to_owned()));
        Self { headers, ..self }
    }

    /// This body and nothing of its own.
    pub fn body(self, content_type: &str, body: &str) -> Self {
        Self { body: Some((content_type.to_owned(), body.to_owned())), ..self }
    }

    /// These bytes and nothing of its own. Without a type none is sent.
    pub fn bytes(self, content_type: &str, bytes: Vec<u8>) -> Self {
        Self { bytes: Some((content_type.to_owned(), bytes)), ..self }
    }

    /// These bytes as a stream of events.
    pub fn events(self, events: &str) -> Self {
        self.bytes("text/event-stream", events.as_bytes().to_vec())
    }

    /// So long before the first byte.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency_ms: millis(latency), ..self }
    }

    /// A stream in so many pieces of content.
    pub fn chunks(self, chunks: usize) -> Self {
        Self { chunks: Some(chunks), ..self }
    }

    /// So long before each further piece of content.
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause_ms: millis(pause), ..self }
    }

    /// The body is sent so many bytes at a time, wherever that splits it.
    pub fn in_pieces(self, bytes: usize) -> Self {
        Self { pieces: Some(bytes), ..self }
    }

    /// Whether it is on the bill; usually good answers are, and all that begin
    /// like one.
    pub fn billed(self, bill: bool) -> Self {
        Self { bill: Some(bill), ..self }
    }

    /// Waits before the first byte until the gate is open.
    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some((usize::MAX, gate.clone())), ..self }
    }

    /// Waits in the stream, after so many pieces of content.
    pub fn waits_after(self, pieces: usize, gate: &Gate) -> Self {
        Self { gate: Some((pieces, gate.clone())), ..self }
    }

    pub(super) fn gate_before(&self) -> Option<&Gate> {
        self.gate.as_ref().filter(|(place, _)| *place == usize::MAX).map(|(_, gate)| gate)
    }

    pub(super) fn gate_after(&self, pieces: usize) -> Option<&Gate> {
        self.gate.as_ref().filter(|(place, _)| *place == pieces).map(|(_, gate)| gate)
    }

    /// The `Retry-After` that is a date.
    pub(super) fn retry_date(&self) -> Option<String> {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(self.retry_at?);
        Some(jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).expect("a date"))
    }

    /// The provider's own words for a status.
    pub(super) fn error(status: u16) -> Value {
        let (kind, code, message) = match status {
            400 => ("invalid_request_error", json!(null), "The request is not good."),
            401 => ("invalid_request_error", json!("invalid_api_key"), "Incorrect API key provided."),
            403 => ("invalid_request_error", json!("unsupported_country"), "You may not do that."),
            404 => ("invalid_request_error", json!("model_not_found"), "The model does not exist."),
            429 => ("requests", json!("rate_limit_exceeded"), "Rate limit reached."),
            _ => ("server_error", json!(null), "The server had an error while processing your request."),
        };
        json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}

/// Holds answers until it is opened.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all go on, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        // The sender is here, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
