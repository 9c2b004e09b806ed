//! One question to one provider, and what its answer costs.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Method;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::de::IgnoredAny;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Inner;
use super::breaker::State;
use super::call::Times;
use super::complaint::Complaint;
use super::failure::{Bill, Failure, No};
use super::provider::Step;
use super::quirks::Quirks;
use super::relay;
use super::request::{Request, Written};
use crate::budgets::{Payer, Reservation, Spent, Tokens};
use crate::config::OnHangup;
use crate::http::Problem;
use crate::models::answer::{Members, NoAnswer as NotAnAnswer, judge};
use crate::models::estimate::Estimate;
use crate::models::price::Price;
use crate::models::usage::{self, Usage};
use crate::models::{Answer, Endpoint, Receipt, Reply};
use crate::money::Usd;
use crate::outbound::{AnswerBody, NoAnswer, Piece};

/// Bytes of a whole answer.
pub(super) const ANSWER_BYTES: usize = 128 << 20;
/// Bytes that a packed answer, or a packed stream, may have when it is unpacked.
const UNPACKED_BYTES: usize = 256 << 20;
/// Bytes of an answer that says no, and how long it may take.
const ERROR_BYTES: usize = 256 << 10;
const ERROR_TIME: Duration = Duration::from_secs(10);

/// A call that is being made at one provider.
pub(super) struct Asked {
    pub gateway: Arc<Inner>,
    pub step: Step,
    pub request: Request,
    pub price: Arc<Price>,
    pub estimate: Estimate,
    pub payer: Payer,
    /// Whether a budget has limited the output.
    pub reduced: bool,
    /// What the model is known not to take, and was not sent.
    pub quirks: Quirks,
    /// The place at the provider, until the answer has come.
    pub _permit: OwnedSemaphorePermit,
}

impl Asked {
    /// What is known when a call has been answered.
    pub(super) fn receipt(&self, times: &Times, cost: Option<Usd>) -> Receipt {
        Receipt {
            cost,
            model: self.step.model.clone(),
            provider: self.step.provider.name.clone(),
            fallbacks: 0,
            left: self.gateway.budgets.left(&self.payer),
            overhead: times.overhead(),
            reduced: self.reduced,
            age: None,
        }
    }

    /// What was spent, by what the provider counted or, where it did not, by what
    /// came out.
    pub(super) fn spent(&self, counted: Option<Usage>, output: impl FnOnce() -> u64) -> Spent {
        if let Some(usage) = counted {
            return Spent { cost: self.price.cost(usage), tokens: usage.tokens, counted_by_provider: true };
        }
        let tokens = Tokens { input: self.estimate.input, output: output(), ..Tokens::default() };
        let cost = self.price.most(tokens.input, tokens.output);
        Spent { cost, tokens, counted_by_provider: false }
    }

    /// Whether what was made, and is paid for, cannot be told by what came.
    pub(super) fn hides_output(&self) -> bool {
        let endpoint = self.request.endpoint;
        let sound = matches!(endpoint, Endpoint::AudioSpeech | Endpoint::AudioTranscriptions);
        sound || self.price.reasons()
    }

    /// Remembers how it ended.
    pub(super) fn record(&self, outcome: &'static str, is_fault: bool) {
        let (provider, gateway) = (&self.step.provider, &self.gateway);
        gateway.metrics.call(&provider.name, outcome);
        let now = gateway.clock.now();
        if provider.health.record(&self.step.model, !is_fault, now) {
            let breakers = provider.health.breakers(now);
            let open = breakers.values().filter(|state| **state != State::Closed).count();
            gateway.metrics.set_open(&provider.name, open);
            tracing::warn!(provider = %provider.name, model = %self.step.model, open, "the breaker of a model changed");
        }
    }

    /// Ends a call that failed: the money is released where nothing can have been
    /// billed, and otherwise spent, in full where nobody knows how much it was.
    pub(super) fn failed(&self, reservation: Reservation, failure: Failure) -> Failure {
        self.record(failure.outcome, failure.is_fault());
        let (provider, model) = (&self.step.provider.name, &self.step.model);
        tracing::warn!(%provider, %model, outcome = failure.outcome, why = %failure.problem, "a provider has failed");
        match failure.bill {
            Bill::Nothing => reservation.release(),
            Bill::All => drop(reservation),
            Bill::Used(usage) => reservation.settle(self.spent(Some(usage), || 0)),
        }
        failure
    }

    /// A whole answer to this call.
    pub(super) fn answered(&self, status: u16, body: Bytes, cost: Usd, times: &Times) -> Answer {
        Answer { status, content_type: "application/json".into(), body, receipt: self.receipt(times, Some(cost)) }
    }
}

/// Makes the call. What is streamed is answered with its first piece; a client
/// that goes before that cancels it, unless such calls are drained. A whole
/// answer is waited for also when the client has gone, because the provider
/// makes it and bills it all the same.
///
/// # Errors
/// The outer ones are ours, the inner one is the provider's.
pub(super) async fn attempt(
    asked: Asked,
    written: Written,
    reservation: Reservation,
    times: &mut Times,
) -> Result<Result<Reply, Failure>, Problem> {
    if asked.request.stream && asked.step.provider.settings.on_hangup == OnHangup::Cancel {
        return Ok(Box::pin(make(asked, written, reservation, times)).await);
    }
    let began = Instant::now();
    let so_far = *times;
    let made = async move {
        let mut times = so_far;
        make(asked, written, reservation, &mut times).await
    };
    let outcome = Unstoppable::new(made).await.map_err(|_| Problem::internal("a call to a model panicked"))?;
    if outcome.is_err() {
        times.waited += began.elapsed();
    }
    Ok(outcome)
}

/// Work that goes on by itself when nobody waits for it any more.
struct Unstoppable<T: Send + 'static>(Option<BoxFuture<'static, Result<T, Panicked>>>);

/// What a panic was about; it is in the log.
type Panicked = Box<dyn std::any::Any + Send>;

impl<T: Send + 'static> Unstoppable<T> {
    fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(AssertUnwindSafe(work).catch_unwind().boxed()))
    }
}

impl<T: Send + 'static> Future for Unstoppable<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let ended = work.as_mut().poll(context);
        if ended.is_ready() {
            self.0 = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for Unstoppable<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the next one settles what was reserved.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

async fn make(asked: Asked, written: Written, reservation: Reservation, times: &mut Times) -> Result<Reply, Failure> {
    let provider = asked.step.provider.clone();
    let settings = &provider.settings;
    let (limit, what) = if asked.request.stream {
        (settings.first_token, "the first byte of its answer")
    } else {
        (settings.total, "its answer")
    };
    let began = Instant::now();
    let Written { content_type, body } = written;
    let (path, headers) = (asked.request.endpoint.path(), headers(&asked, &content_type));
    let sent = provider.pool.send(Method::POST, path, headers, body, limit).await;
    times.waited += began.elapsed();
    let response = match sent {
        Ok(response) => response,
        Err(NoAnswer::Late) => return Err(asked.failed(reservation, Failure::timeout(&provider.name, what, limit))),
        Err(error) => return Err(asked.failed(reservation, Failure::no_answer(&provider.name, &error))),
    };
    let (head, incoming) = response.into_parts();
    let body = AnswerBody::new(incoming, &head.headers, UNPACKED_BYTES);
    if !head.status.is_success() {
        let no = No::of(head.status.as_u16(), &head.headers, asked.gateway.clock.now());
        return said_no(asked, reservation, no, body.ok(), times).await;
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let what = format!("sent an answer that cannot be unpacked: {error}");
            return Err(asked.failed(reservation, Failure::nonsense(&provider.name, &what, Bill::All)));
        }
    };
    let media = Media::of(&head.headers);
    let left = limit.saturating_sub(began.elapsed());
    // Recordings and sounds come as a stream where the provider says so.
    let is_text = matches!(asked.request.endpoint, Endpoint::ChatCompletions | Endpoint::Responses);
    if asked.request.stream && (is_text || media.is_events()) {
        asked.gateway.metrics.first_byte(&provider.name, began.elapsed());
        relay::begin(asked, reservation, body, left, times).await
    } else {
        let waiting = Instant::now();
        let body = collect_within(body, ANSWER_BYTES, left.min(settings.total)).await;
        asked.gateway.metrics.first_byte(&provider.name, waiting.elapsed());
        times.waited += waiting.elapsed();
        let body = match body {
            Ok(body) => body,
            Err(broken) => return Err(asked.failed(reservation, broken.failure(&asked))),
        };
        whole(&asked, reservation, head.status.as_u16(), media.0, body, times).map(Reply::Whole)
    }
}

fn headers(asked: &Asked, content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let accept = match (asked.request.stream, asked.request.endpoint) {
        (true, _) => "text/event-stream",
        (false, Endpoint::AudioSpeech | Endpoint::AudioTranscriptions) => "*/*",
        (false, _) => "application/json",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    // Each byte of an answer is read here, and packing delays the pieces of a stream.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.extend(HeaderValue::from_str(content_type).ok().map(|value| (CONTENT_TYPE, value)));
    headers.extend(asked.step.provider.authorization.clone().map(|value| (AUTHORIZATION, value)));
    headers
}

/// The media type of an answer, as the provider wrote it.
struct Media(String);

impl Media {
    fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self(value.unwrap_or("application/octet-stream").to_owned())
    }

    /// Media types are compared without case (RFC 9110, section 8.3.1).
    fn is(&self, wanted: &str) -> bool {
        self.0.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
    }

    fn is_events(&self) -> bool {
        self.is("text/event-stream")
    }

    fn is_json(&self) -> bool {
        self.is("application/json") || self.is("application/problem+json")
    }
}

/// An answer with a status that is none of success. What is wrong with the
/// client's own request is passed on and costs nothing.
async fn said_no(
    asked: Asked,
    reservation: Reservation,
    no: No,
    body: Option<AnswerBody>,
    times: &Times,
) -> Result<Reply, Failure> {
    let provider = asked.step.provider.clone();
    let limit = provider.settings.first_token.min(ERROR_TIME);
    let body = match body {
        Some(body) => collect_within(body, ERROR_BYTES, limit).await.unwrap_or_default(),
        None => Bytes::new(),
    };
    let complaint = Complaint::read(&body);
    if let Some(failure) = Failure::refusal(&provider, no, &complaint) {
        return Err(asked.failed(reservation, failure));
    }
    asked.record("client_error", false);
    reservation.release();
    if let Some(quirks) = asked.quirks.learned(&complaint, &asked.request) {
        return Err(Failure::adapted(quirks));
    }
    let body = if is_json(&body) {
        body
    } else {
        let message = format!("the provider {} refused the request ({}) and did not say why", provider.name, no.status);
        let error = serde_json::json!({ "error": {
            "message": message, "type": "invalid_request_error", "param": null, "code": "provider_refused",
        } });
        error.to_string().into()
    };
    Ok(Reply::Whole(asked.answered(no.status, body, Usd::ZERO, times)))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Judges an answer that has come to its end, and settles it.
pub(super) fn whole(
    asked: &Asked,
    reservation: Reservation,
    status: u16,
    content_type: String,
    body: Bytes,
    times: &Times,
) -> Result<Answer, Failure> {
    let (endpoint, provider) = (asked.request.endpoint, &asked.step.provider);
    let media = Media(content_type);
    let must_be_json = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Embeddings);
    let mut repaired = Vec::new();
    let members = if must_be_json || media.is_json() { Members::read(&body, &mut repaired) } else { None };
    let counted = members.as_ref().and_then(|members| usage::usage_of(endpoint, members, asked.price.unit()));
    let judged = match &members {
        Some(members) => judge(endpoint, members),
        None if must_be_json => {
            let failure = Failure::nonsense(&provider.name, "sent an answer that is not a JSON object", Bill::All);
            return Err(asked.failed(reservation, failure));
        }
        None => Ok(()),
    };
    if let Err(fault) = judged {
        // An error is not paid for, unless the provider says what it has used.
        let bill = counted.map_or(Bill::Nothing, Bill::Used);
        let failure = match fault {
            NotAnAnswer::Lacks(what) if Complaint::read(&body).message().is_none() => {
                let what = format!("sent an answer without {what}");
                Failure::nonsense(&provider.name, &what, bill)
            }
            _ => Failure::in_success(provider, &body, bill),
        };
        return Err(asked.failed(reservation, failure));
    }
    asked.record("ok", false);
    let spent = if counted.is_none() && asked.hides_output() {
        Spent { cost: asked.estimate.most, tokens: Tokens::default(), counted_by_provider: false }
    } else {
        asked.spent(counted, || usage::count_output(endpoint, &body, &asked.price))
    };
    drop(repaired);
    reservation.settle(spent);
    Ok(Answer { content_type: media.0, ..asked.answered(status, body, spent.cost, times) })
}

/// Why a body is not whole.
#[derive(Debug)]
pub(super) enum Broken {
    Lost,
    TooLarge,
    Late,
}

impl Broken {
    pub(super) fn failure(&self, asked: &Asked) -> Failure {
        let provider = &asked.step.provider;
        match self {
            Self::Lost => Failure::broken(&provider.name),
            Self::TooLarge => Failure::too_large(&provider.name),
            Self::Late => Failure::timeout(&provider.name, "its answer", provider.settings.total),
        }
    }
}

/// All of a body, in so much time.
pub(super) async fn collect_within(mut body: AnswerBody, most: usize, limit: Duration) -> Result<Bytes, Broken> {
    timeout(limit, collect(&mut body, BytesMut::new(), most)).await.unwrap_or(Err(Broken::Late))
}

/// What is left of a body, behind what has come of it already.
pub(super) async fn collect(body: &mut AnswerBody, begun: BytesMut, most: usize) -> Result<Bytes, Broken> {
    let mut whole = begun;
    // Most come in one piece, which need not be copied.
    let mut first: Option<Bytes> = None;
    loop {
        match body.piece().await {
            Piece::Some(data) if whole.is_empty() && first.is_none() => first = Some(data),
            Piece::Some(data) => {
                whole.extend_from_slice(&first.take().unwrap_or_default());
                whole.extend_from_slice(&data);
            }
            Piece::End => return Ok(first.unwrap_or_else(|| whole.freeze())),
            Piece::Broken => return Err(Broken::Lost),
            Piece::TooLarge => return Err(Broken::TooLarge),
        }
        if whole.len() + first.as_ref().map_or(0, Bytes::len) > most {
            return Err(Broken::TooLarge);
        }
    }
}
