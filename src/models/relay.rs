//! An answer passed on as it comes. What it costs is settled when it ends, in
//! whatever way: at its end, broken off, or left by its client.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use tokio::time::{Sleep, sleep, timeout};

use super::attempt::Asked;
use super::call::Times;
use super::failure::Failure;
use super::frames::UsageFilter;
use super::metrics::StreamGuard;
use super::usage::StreamCounter;
use super::{Endpoint, Reply, Streamed};
use crate::budgets::Reservation;
use crate::config::OnHangup;

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
/// one holds a piece and no more.
struct Relay {
    first: Option<Bytes>,
    body: Option<Incoming>,
    filter: Option<UsageFilter>,
    account: Option<Account>,
    deadline: Pin<Box<Sleep>>,
    _guard: StreamGuard,
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
            End::Late => ("timeout", true),
        };
        asked.record(outcome, is_fault);
        reservation.settle(asked.spent(counter.usage(), || counter.output()));
    }
}

impl Relay {
    fn new(asked: Asked, reservation: Reservation, body: Incoming, first: Bytes) -> Self {
        let request = &asked.request;
        Self {
            first: Some(first),
            body: Some(body),
            filter: request.hides_usage.then(UsageFilter::default),
            deadline: Box::pin(sleep(asked.step.provider.settings.total)),
            _guard: asked.gateway.metrics.stream(),
            account: Some(Account { counter: StreamCounter::new(request.endpoint, &asked.price), asked, reservation }),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let found = match self.first.take() {
                Some(first) => Ok(Piece::Some(first)),
                None => {
                    let body = self.body.as_mut()?;
                    tokio::select! {
                        found = piece(body) => Ok(found),
                        () = &mut self.deadline => Err(()),
                    }
                }
            };
            match found {
                Ok(Piece::Some(data)) => {
                    if let Some(account) = &mut self.account {
                        account.counter.feed(&data);
                    }
                    let passed = match &mut self.filter {
                        Some(filter) => filter.pass(data),
                        None => data,
                    };
                    if !passed.is_empty() {
                        return Some(passed);
                    }
                }
                Ok(Piece::End) => return self.end(End::Whole),
                Ok(Piece::Broken) => return self.end(End::Broken),
                Err(()) => return self.end(End::Late),
            }
        }
    }

    /// Settles, and says in the stream itself when it is not whole.
    fn end(&mut self, end: End) -> Option<Bytes> {
        self.body = None;
        let mut last = self.filter.take().map(UsageFilter::rest).unwrap_or_default().to_vec();
        if let Some(account) = self.account.take() {
            let complete = account.counter.is_complete();
            let provider = account.asked.step.provider.name.clone();
            let endpoint = account.asked.request.endpoint;
            if !matches!(end, End::Whole) && !complete {
                tracing::warn!(%provider, model = %account.asked.step.model, "a stream broke off");
                last.extend_from_slice(&broken_off(endpoint, &provider, end));
            }
            account.settle(if complete { End::Whole } else { end });
        }
        (!last.is_empty()).then(|| last.into())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let Some(mut account) = self.account.take() else { return };
        let settings = &account.asked.step.provider.settings;
        let (drains, limit) = (settings.on_hangup == OnHangup::Drain, settings.total);
        let Some(mut body) = self.body.take().filter(|_| drains) else { return account.settle(End::HungUp) };
        tokio::spawn(async move {
            let rest = async {
                while let Piece::Some(data) = piece(&mut body).await {
                    account.counter.feed(&data);
                }
            };
            let _ = timeout(limit, rest).await;
            account.settle(End::HungUp);
        });
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
