//! An answer passed on as it comes. What it costs is settled when it ends, in
//! whatever way: at its end, broken off, or left by its client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::attempt::Asked;
use super::call::Times;
use super::failure::Failure;
use super::metrics::StreamGuard;
use super::usage_filter::UsageFilter;
use crate::budgets::Reservation;
use crate::config::OnHangup;
use crate::models::price::Unit;
use crate::models::usage::StreamCounter;
use crate::models::{Endpoint, Reply, Streamed};

/// What a provider has sent already is counted when a stream is let go, whether
/// or not anybody has read it: for so long, and so many bytes.
const LAST_WORDS: Duration = Duration::from_millis(200);
const LAST_BYTES: usize = 8 << 20;
/// Longer than any stream.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Waits for the first piece, and gives the stream that begins with it. Until
/// then another provider can still be asked.
pub(super) async fn begin(
    asked: Asked,
    reservation: Reservation,
    response: Response<Incoming>,
    limit: Duration,
    times: &mut Times,
) -> Result<Reply, Failure> {
    let provider = asked.step.provider.clone();
    let waiting = Instant::now();
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or("text/event-stream").to_owned();
    let mut body = response.into_body();
    let failure = match timeout(limit, piece(&mut body)).await {
        Ok(Piece::Some(first)) => {
            times.waited += waiting.elapsed();
            let receipt = asked.receipt(times, None);
            let relay = Relay::new(asked, reservation, body, first);
            let pieces =
                stream::unfold(relay, |mut relay| async move { relay.next().await.map(|piece| (piece, relay)) });
            return Ok(Reply::Stream(Streamed { content_type, pieces: pieces.boxed(), receipt }));
        }
        Ok(Piece::End) => Failure::nonsense(&provider.name, "gave a stream with nothing in it"),
        Ok(Piece::Broken) => Failure::broken(&provider.name),
        Err(_) => Failure::timeout(&provider.name, "the first byte of its answer", provider.settings.first_token),
    };
    times.waited += waiting.elapsed();
    Err(asked.failed(reservation, failure))
}

/// What comes next of a body.
enum Piece {
    Some(Bytes),
    End,
    Broken,
}

async fn piece(body: &mut Incoming) -> Piece {
    loop {
        match body.frame().await {
            None => return Piece::End,
            Some(Err(_)) => return Piece::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Piece::Some(data),
                _ => {}
            },
        }
    }
}

/// A stream under way. Nothing is read before the client wants it, so a slow
/// one holds a piece and no more; for how long is bounded also when it wants
/// nothing any more.
struct Relay {
    first: Option<Bytes>,
    filter: Option<UsageFilter>,
    endpoint: Endpoint,
    provider: Arc<str>,
    deadline: Instant,
    held: Arc<Mutex<Option<Held>>>,
    _watch: AbortOnDropHandle<()>,
    _guard: StreamGuard,
}

/// The provider's end, and what has to be settled when it is let go.
struct Held {
    body: Option<Incoming>,
    account: Option<Account>,
}

/// What has to be settled.
struct Account {
    asked: Asked,
    reservation: Reservation,
    counter: StreamCounter,
}

/// How a stream ended.
#[derive(Clone, Copy)]
enum End {
    Whole,
    Broken,
    Late,
    HungUp,
}

impl Account {
    fn settle(self, end: End) {
        let Self { asked, reservation, counter } = self;
        let (outcome, is_fault) = match end {
            End::Whole | End::HungUp => ("ok", false),
            End::Broken => ("lost", true),
            // The provider was there; who read slowly may have been the client.
            End::Late => ("timeout", false),
        };
        asked.record(outcome, is_fault);
        // What is paid by time is not told in tokens.
        let by_token = asked.price.unit() == Unit::Token;
        let counted = counter.usage().filter(|_| by_token);
        if counted.is_none() && asked.hides_output() {
            // Nobody can say what it was; dropped, it is settled in full.
            return drop(reservation);
        }
        reservation.settle(asked.spent(counted, || counter.output()));
    }
}

impl Relay {
    fn new(asked: Asked, reservation: Reservation, body: Incoming, first: Bytes) -> Self {
        let (request, provider) = (&asked.request, &asked.step.provider);
        let (hides_usage, endpoint, total) = (request.hides_usage, request.endpoint, provider.settings.total);
        let (name, guard) = (provider.name.clone(), asked.gateway.metrics.stream());
        let counter = StreamCounter::new(endpoint, &asked.price);
        let account = Account { asked, reservation, counter };
        let held = Arc::new(Mutex::new(Some(Held { body: Some(body), account: Some(account) })));
        let watched = held.clone();
        let watch = tokio::spawn(async move {
            sleep(total).await;
            // While it is being read, whoever reads looks at the time.
            if let Some(mut held) = watched.lock().unwrap_or_else(PoisonError::into_inner).take() {
                held.let_go(End::Late);
            }
        });
        Self {
            first: Some(first),
            filter: hides_usage.then(UsageFilter::default),
            endpoint,
            provider: name,
            deadline: Instant::now() + total,
            held,
            _watch: AbortOnDropHandle::new(watch),
            _guard: guard,
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        let taken = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut held) = taken else {
            // It has ended, or the time was up while nobody read.
            return (Instant::now() >= self.deadline).then(|| self.rest(Some(End::Late))).flatten();
        };
        loop {
            let (found, end) = match self.first.take() {
                Some(first) => (Some(first), End::Whole),
                None => {
                    let body = held.body.as_mut()?;
                    match timeout_at(self.deadline.into(), piece(body)).await {
                        Ok(Piece::Some(data)) => (Some(data), End::Whole),
                        Ok(Piece::End) => (None, End::Whole),
                        Ok(Piece::Broken) => (None, End::Broken),
                        Err(_) => (None, End::Late),
                    }
                }
            };
            let Some(data) = found else {
                let complete = held.end(end);
                return self.rest(Some(end).filter(|end| !complete && !matches!(end, End::Whole)));
            };
            if let Some(account) = &mut held.account {
                account.counter.feed(&data);
            }
            let passed = match &mut self.filter {
                Some(filter) => filter.pass(data),
                None => data,
            };
            if !passed.is_empty() {
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
                return Some(passed);
            }
        }
    }

    /// The last that a client gets: what was held back, and what went wrong.
    fn rest(&mut self, wrong: Option<End>) -> Option<Bytes> {
        // Said once.
        self.deadline += FOREVER;
        let mut last = self.filter.take().map(UsageFilter::rest).unwrap_or_default().to_vec();
        if let Some(end) = wrong {
            tracing::warn!(provider = %self.provider, "a stream broke off");
            last.extend_from_slice(&broken_off(self.endpoint, &self.provider, end));
        }
        (!last.is_empty()).then(|| last.into())
    }
}

impl Held {
    /// Settles; whether the answer had come whole.
    fn end(mut self, end: End) -> bool {
        self.body = None;
        let Some(account) = self.account.take() else { return true };
        let complete = account.counter.is_complete();
        account.settle(if complete { End::Whole } else { end });
        complete
    }
}

impl Held {
    /// Settles what nobody reads any more. What the provider has sent is billed, so
    /// it is counted first; of calls that are drained, all that still comes.
    fn let_go(&mut self, end: End) {
        let Some(mut account) = self.account.take() else { return };
        let settings = &account.asked.step.provider.settings;
        let drains = settings.on_hangup == OnHangup::Drain && matches!(end, End::HungUp);
        let (limit, most) = if drains { (settings.total, usize::MAX) } else { (LAST_WORDS, LAST_BYTES) };
        // Where no runtime is left, the process ends.
        let (Some(mut body), Ok(runtime)) = (self.body.take(), Handle::try_current()) else {
            return account.settle(end);
        };
        runtime.spawn(async move {
            let mut bytes = 0;
            let rest = async {
                while bytes < most
                    && let Piece::Some(data) = piece(&mut body).await
                {
                    account.counter.feed(&data);
                    bytes += data.len();
                }
            };
            let _ = timeout(limit, rest).await;
            account.settle(end);
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.let_go(End::HungUp);
    }
}

/// The event that says that no more comes, in the words of the interface.
fn broken_off(endpoint: Endpoint, provider: &str, end: End) -> Vec<u8> {
    let (code, what) = match end {
        End::Late => ("provider_timeout", "took too long"),
        _ => ("provider_failed", "broke off"),
    };
    let message = format!("the provider {provider} {what} in the middle of its answer");
    let (event, data) = match endpoint {
        Endpoint::Responses => {
            ("event: error\n", serde_json::json!({ "type": "error", "code": code, "message": message, "param": null }))
        }
        _ => {
            let error = serde_json::json!({ "message": message, "type": "server_error", "param": null, "code": code });
            ("", serde_json::json!({ "error": error }))
        }
    };
    // Whatever half of an event came before ends here.
    format!("\n\n{event}data: {data}\n\n").into_bytes()
}
