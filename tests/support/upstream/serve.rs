//! Connections, and what becomes of each request: who may ask, which script it
//! meets, what comes on the bill, and how the answer is written.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Ask, Body, Event, Kind, answer};
use super::books::{End, Used};
use super::peer::{Gone, Peer, Request};
use super::script::{Fault, Script};
use super::{Shared, control, sound};

/// Serves until the other half of `stopped` goes.
pub fn run(listener: TcpListener, tls: Option<&TlsAcceptor>, shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let accepting = async {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            if shared.lock().down {
                continue;
            }
            let (tls, shared) = (tls.cloned(), shared.clone());
            tokio::spawn(async move {
                let _open = Open::new(&shared);
                match tls {
                    None => connection(stream, &shared).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            connection(stream, &shared).await;
                        }
                    }
                }
            });
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}

/// A connection, as long as it is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.change(|state| {
            state.counts.connections += 1;
            state.counts.accepted += 1;
        });
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.counts.connections -= 1);
    }
}

/// What is left to do with a connection after an answer.
enum Then {
    Next,
    /// An orderly end.
    Close,
    /// The end, whatever the client has of the answer.
    Cut,
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: &Shared) {
    let mut peer = Peer::new(stream);
    while let Ok(request) = peer.request().await {
        let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match exchange(&mut peer, shared, request).await {
            Ok(Then::Next) if !last => {}
            Ok(Then::Next | Then::Close) => return peer.close().await,
            Ok(Then::Cut) | Err(Gone) => return,
        }
    }
}

/// A request under way. Unless it is said how it ended, the client hung up.
struct Exchange<'a> {
    shared: &'a Shared,
    /// Its place in the books.
    call: Option<u64>,
    end: End,
}

impl<'a> Exchange<'a> {
    fn begin(shared: &'a Shared, request: &Request) -> Self {
        shared.change(|state| {
            state.counts.requests += 1;
            state.counts.active += 1;
            state.counts.most_active = state.counts.most_active.max(state.counts.active);
            if shared.keep {
                state.requests.push(request.clone());
            }
        });
        Self { shared, call: None, end: End::Open }
    }

    /// It comes on the bill.
    fn bill(&mut self, model: &str, path: &str, used: Used) {
        self.call = Some(self.shared.lock().books.begin(model, path, used));
    }

    fn used(&self, change: impl FnOnce(&mut Used)) {
        if let Some(call) = self.call {
            self.shared.lock().books.uses(call, change);
        }
    }

    /// How it ends. Said before the last bytes are written, so that whoever has
    /// read them finds it in the counts.
    fn ends(&mut self, end: End) {
        let before = std::mem::replace(&mut self.end, end);
        self.shared.change(|state| {
            let counts = &mut state.counts;
            match before {
                End::Open => counts.active -= 1,
                End::Answered => counts.answered -= 1,
                End::Cancelled | End::Cut => {}
            }
            match end {
                End::Answered => counts.answered += 1,
                End::Cancelled => counts.cancelled += 1,
                End::Open | End::Cut => {}
            }
            if let Some(call) = self.call {
                state.books.end(call, end);
            }
        });
    }

    /// The last bytes of an answer.
    async fn last<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        peer: &mut Peer<S>,
        bytes: &[u8],
    ) -> Result<Then, Gone> {
        self.ends(End::Answered);
        peer.write(bytes).await.inspect_err(|_| self.ends(End::Cancelled))?;
        Ok(Then::Next)
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if self.end == End::Open {
            self.ends(End::Cancelled);
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    shared: &Shared,
    request: Request,
) -> Result<Then, Gone> {
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    if let Some(path) = path.strip_prefix(control::PREFIX) {
        let (status, body) = control::answer(shared, path, &request);
        let body = body.to_string();
        let mut bytes = head(&Script::status(status), "application/json", Some(body.len()));
        bytes.extend_from_slice(body.as_bytes());
        return peer.write(&bytes).await.map(|()| Then::Next);
    }
    let mut exchange = Exchange::begin(shared, &request);
    if let Some((status, body)) = refusal(shared, &path, &request) {
        return plain(peer, &mut exchange, status, &body).await;
    }
    let body = match request.header("content-type").filter(|it| it.starts_with("multipart/")) {
        Some(content_type) => sound::fields(content_type, &request.body),
        None => serde_json::from_slice(&request.body).unwrap_or(Value::Null),
    };
    let model = body["model"].as_str().unwrap_or_default();
    if model.is_empty() {
        return plain(peer, &mut exchange, 400, &Script::error(400)).await;
    }
    if shared.lock().only.as_ref().is_some_and(|only| !only.contains(model)) {
        return plain(peer, &mut exchange, 404, &Script::error(404)).await;
    }
    let script = shared.lock().script(model);
    let number = shared.number.fetch_add(1, Ordering::Relaxed) + 1;
    let Some(answer) = answer(&path, &Ask { script: &script, model, body: &body, number }) else {
        return plain(peer, &mut exchange, 404, &Script::error(404)).await;
    };
    perform(peer, &mut exchange, &script, answer, (model, &path)).await
}

/// What does not come to a script: wrong keys, lists, paths that there are not.
fn refusal(shared: &Shared, path: &str, request: &Request) -> Option<(u16, Value)> {
    let state = shared.lock();
    let key = request.header("authorization").and_then(|it| it.strip_prefix("Bearer ")).unwrap_or_default();
    if state.keys.as_ref().is_some_and(|keys| !keys.contains(key)) {
        let mut error = Script::error(401);
        error["error"]["message"] = json!(format!("Incorrect API key provided: {key}."));
        return Some((401, error));
    }
    if state.missing.contains(path) {
        return Some((404, Script::error(404)));
    }
    let names = || {
        let known = state.books.prices.keys().chain(state.scripts.keys()).chain(state.only.iter().flatten());
        known.cloned().collect::<std::collections::BTreeSet<_>>()
    };
    let model = |id: &str| json!({ "id": id, "object": "model", "created": 1_750_000_000, "owned_by": "scripted" });
    if path == "/v1/models" {
        let models: Vec<_> = names().iter().map(|id| model(id)).collect();
        return Some((200, json!({ "object": "list", "data": models })));
    }
    let id = path.strip_prefix("/v1/models/")?;
    Some(if names().contains(id) { (200, model(id)) } else { (404, Script::error(404)) })
}

/// Does what the script says.
async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    exchange: &mut Exchange<'_>,
    script: &Script,
    answer: Answer,
    (model, path): (&str, &str),
) -> Result<Then, Gone> {
    let used = answer.used;
    if script.bill.unwrap_or(script.status < 300) {
        // What a stream uses comes on the bill piece by piece.
        let is_stream = matches!(answer.body, Body::Events(_)) && script.body.is_none() && script.bytes.is_none();
        let by_piece = is_stream && !matches!(script.fault, Fault::HangBefore | Fault::CutBefore);
        let begun = if by_piece { Used { output: 0, reasoning: 0, ..used } } else { used };
        exchange.bill(model, path, begun);
    }
    if let Some(gate) = script.gate_before() {
        peer.until(gate.passed()).await?;
    }
    if script.latency_ms > 0 {
        peer.until(tokio::time::sleep(Duration::from_millis(script.latency_ms))).await?;
    }
    match script.fault {
        Fault::HangBefore => return Err(peer.gone().await),
        Fault::CutBefore => {
            exchange.ends(End::Cut);
            return Ok(Then::Cut);
        }
        _ => {}
    }
    if let Some((content_type, bytes)) = &script.bytes {
        return whole(peer, exchange, script, content_type, bytes).await;
    }
    if let Some((content_type, body)) = &script.body {
        return whole(peer, exchange, script, content_type, body.as_bytes()).await;
    }
    if script.status >= 300 {
        let body = Script::error(script.status).to_string();
        return whole(peer, exchange, script, "application/json", body.as_bytes()).await;
    }
    match answer.body {
        Body::Whole(body) => whole(peer, exchange, script, answer.content_type, &body).await,
        Body::Events(events) => stream(peer, exchange, script, answer.content_type, &events).await,
    }
}

async fn plain<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    exchange: &mut Exchange<'_>,
    status: u16,
    body: &Value,
) -> Result<Then, Gone> {
    whole(peer, exchange, &Script::status(status), "application/json", body.to_string().as_bytes()).await
}

fn head(script: &Script, content_type: &str, length: Option<usize>) -> Vec<u8> {
    use std::io::Write as _;
    let mut head = Vec::with_capacity(256);
    let _ = write!(head, "HTTP/1.1 {} Scripted\r\n", script.status);
    if !content_type.is_empty() {
        let _ = write!(head, "Content-Type: {content_type}\r\n");
    }
    for (name, value) in &script.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if let Some(date) = script.retry_date() {
        let _ = write!(head, "Retry-After: {date}\r\n");
    }
    let _ = match length {
        Some(length) => write!(head, "Content-Length: {length}\r\n\r\n"),
        None => write!(head, "Transfer-Encoding: chunked\r\n\r\n"),
    };
    head
}

async fn whole<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    exchange: &mut Exchange<'_>,
    script: &Script,
    content_type: &str,
    body: &[u8],
) -> Result<Then, Gone> {
    if let Some(size) = script.pieces {
        peer.write(&head(script, content_type, None)).await?;
        pieces(peer, body, size).await?;
        return exchange.last(peer, b"0\r\n\r\n").await;
    }
    let mut bytes = head(script, content_type, Some(body.len()));
    if let Fault::HangAfter(place) | Fault::CutAfter(place) = script.fault {
        let place = if place == 0 { 0 } else { body.len() / 2 };
        bytes.extend_from_slice(&body[..place]);
        peer.write(&bytes).await?;
        return fail(peer, exchange, script.fault).await;
    }
    bytes.extend_from_slice(body);
    exchange.last(peer, &bytes).await
}

/// Each in a chunk of its own, so that the client sees them apart.
async fn pieces<S: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<S>, body: &[u8], size: usize) -> Result<(), Gone> {
    for piece in body.chunks(size.max(1)) {
        let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        peer.write(&bytes).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn stream<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    exchange: &mut Exchange<'_>,
    script: &Script,
    content_type: &str,
    events: &[Event],
) -> Result<Then, Gone> {
    // What has not been written yet; the frame before a piece goes with it.
    let mut waiting = head(script, content_type, None);
    let mut sent = 0;
    for event in events {
        if event.kind != Kind::Frame {
            let place = match script.fault {
                Fault::HangAfter(place) | Fault::CutAfter(place) | Fault::ErrorAfter(place) => Some(place),
                _ => None,
            };
            if place.is_some_and(|place| sent >= place) {
                peer.write(&std::mem::take(&mut waiting)).await?;
                return fail(peer, exchange, script.fault).await;
            }
            if let Some(gate) = script.gate_after(sent) {
                peer.write(&std::mem::take(&mut waiting)).await?;
                peer.until(gate.passed()).await?;
            }
        }
        if let Kind::Content(tokens) = event.kind {
            if sent > 0 && script.pause_ms > 0 {
                peer.until(tokio::time::sleep(Duration::from_millis(script.pause_ms))).await?;
            }
            sent += 1;
            exchange.used(|used| used.output += tokens);
        }
        if event.kind == Kind::End && script.fault == Fault::NoEnd {
            continue;
        }
        if let Some(size) = script.pieces {
            peer.write(&std::mem::take(&mut waiting)).await?;
            pieces(peer, event.bytes.as_bytes(), size).await?;
            continue;
        }
        waiting.extend_from_slice(format!("{:x}\r\n", event.bytes.len()).as_bytes());
        waiting.extend_from_slice(event.bytes.as_bytes());
        waiting.extend_from_slice(b"\r\n");
        if matches!(event.kind, Kind::Content(_)) {
            peer.write(&std::mem::take(&mut waiting)).await?;
        }
    }
    waiting.extend_from_slice(b"0\r\n\r\n");
    exchange.last(peer, &waiting).await
}

/// In the middle.
async fn fail<S: AsyncRead + AsyncWrite + Unpin>(
    peer: &mut Peer<S>,
    exchange: &mut Exchange<'_>,
    fault: Fault,
) -> Result<Then, Gone> {
    if let Fault::HangAfter(_) = fault {
        return Err(peer.gone().await);
    }
    exchange.ends(End::Cut);
    if let Fault::ErrorAfter(_) = fault {
        let event = Event::data(&Script::error(500), Kind::Frame).bytes;
        let bytes = format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len());
        peer.write(bytes.as_bytes()).await?;
        return Ok(Then::Close);
    }
    Ok(Then::Cut)
}
