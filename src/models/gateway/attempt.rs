//! One question to one provider, and what its answer costs.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Response};
use serde::de::IgnoredAny;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Inner;
use super::breaker::State;
use super::call::Times;
use super::failure::Failure;
use super::provider::Step;
use super::relay;
use super::request::{Request, Written};
use crate::budgets::{Payer, Reservation, Spent, Tokens};
use crate::config::OnHangup;
use crate::http::Problem;
use crate::models::estimate::Estimate;
use crate::models::price::Price;
use crate::models::usage;
use crate::models::{Answer, Endpoint, Receipt, Reply};
use crate::money::Usd;
use crate::outbound::NoAnswer;

/// Bytes of a whole answer.
const ANSWER_BYTES: usize = 128 << 20;
/// Bytes of an answer that says no.
const ERROR_BYTES: usize = 256 << 10;

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
    pub(super) fn spent(&self, counted: Option<Tokens>, output: impl FnOnce() -> u64) -> Spent {
        let tokens =
            counted.unwrap_or_else(|| Tokens { input: self.estimate.input, output: output(), ..Tokens::default() });
        Spent { cost: self.price.cost(&tokens), tokens, counted_by_provider: counted.is_some() }
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

    /// Ends a call that failed: the money goes back where nothing can have been
    /// billed, and else is spent in full.
    pub(super) fn failed(&self, reservation: Reservation, failure: Failure) -> Failure {
        self.record(failure.outcome, failure.is_fault());
        let (provider, model) = (&self.step.provider.name, &self.step.model);
        tracing::warn!(%provider, %model, outcome = failure.outcome, why = %failure.problem, "a provider has failed");
        if failure.billed {
            drop(reservation);
        } else {
            reservation.release();
        }
        failure
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
        return Ok(make(asked, written, reservation, times).await);
    }
    let began = Instant::now();
    let so_far = *times;
    let made = async move {
        let mut times = so_far;
        make(asked, written, reservation, &mut times).await
    };
    let outcome = tokio::spawn(made).await.map_err(|error| Problem::internal(format!("a call to a model: {error}")))?;
    if outcome.is_err() {
        times.waited += began.elapsed();
    }
    Ok(outcome)
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
    let status = response.status().as_u16();
    if !response.status().is_success() {
        let now = asked.gateway.clock.now();
        return match Failure::of_status(&provider.name, status, response.headers(), now) {
            Some(failure) => Err(asked.failed(reservation, failure)),
            None => Ok(refused(asked, reservation, response, times).await),
        };
    }
    let left = limit.saturating_sub(began.elapsed());
    let is_stream = asked.request.stream && content_type_of(&response).starts_with("text/event-stream");
    let waiting = Instant::now();
    if is_stream {
        asked.gateway.metrics.first_byte(&provider.name, began.elapsed());
        relay::begin(asked, reservation, response, left, times).await
    } else {
        whole(asked, reservation, response, left, times, waiting).await
    }
}

fn headers(asked: &Asked, content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    let accept = match (asked.request.stream, asked.request.endpoint) {
        (true, _) => "text/event-stream",
        (false, Endpoint::AudioSpeech | Endpoint::AudioTranscriptions) => "*/*",
        (false, _) => "application/json",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.extend(HeaderValue::from_str(content_type).ok().map(|value| (CONTENT_TYPE, value)));
    headers.extend(asked.step.provider.authorization.clone().map(|value| (AUTHORIZATION, value)));
    headers
}

fn content_type_of(response: &Response<Incoming>) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or("application/octet-stream").to_owned()
}

/// An answer that says no to the client's own request costs nothing.
async fn refused(asked: Asked, reservation: Reservation, response: Response<Incoming>, times: &Times) -> Reply {
    asked.record("client_error", false);
    reservation.release();
    let (status, content_type) = (response.status().as_u16(), content_type_of(&response));
    let body = timeout(asked.step.provider.settings.first_token, collect(response.into_body(), ERROR_BYTES)).await;
    let (status, content_type, body) = match body {
        Ok(Ok(body)) if serde_json::from_slice::<IgnoredAny>(&body).is_ok() => (status, content_type, body),
        _ => {
            let provider = &asked.step.provider.name;
            let message = format!("the provider {provider} refused the request ({status}) and did not say why");
            let error = serde_json::json!({ "error": {
                "message": message, "type": "invalid_request_error", "param": null, "code": "provider_refused",
            } });
            (status, "application/json".into(), error.to_string().into())
        }
    };
    Reply::Whole(Answer { status, content_type, body, receipt: asked.receipt(times, Some(Usd::ZERO)) })
}

/// Reads an answer to its end and settles it.
async fn whole(
    asked: Asked,
    reservation: Reservation,
    response: Response<Incoming>,
    limit: std::time::Duration,
    times: &mut Times,
    waiting: Instant,
) -> Result<Reply, Failure> {
    let provider = asked.step.provider.clone();
    let (status, content_type) = (response.status().as_u16(), content_type_of(&response));
    let limit = limit.min(provider.settings.total);
    let body = match timeout(limit, collect(response.into_body(), ANSWER_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(Broken::Lost)) => return Err(asked.failed(reservation, Failure::broken(&provider.name))),
        Ok(Err(Broken::TooLarge)) => {
            let failure = Failure::too_large(&provider.name);
            return Err(asked.failed(reservation, failure));
        }
        Err(_) => {
            let failure = Failure::timeout(&provider.name, "its answer", provider.settings.total);
            return Err(asked.failed(reservation, failure));
        }
    };
    asked.gateway.metrics.first_byte(&provider.name, waiting.elapsed());
    times.waited += waiting.elapsed();
    let endpoint = asked.request.endpoint;
    let is_json = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Embeddings);
    if is_json && !is_object(&body) {
        let failure = Failure::nonsense(&provider.name, "gave an answer that is no JSON object");
        return Err(asked.failed(reservation, failure));
    }
    asked.record("ok", false);
    let counted = usage::usage(endpoint, &body, asked.price.unit());
    let spent = if counted.is_none() && asked.hides_output() {
        Spent { cost: asked.estimate.most, tokens: Tokens::default(), counted_by_provider: false }
    } else {
        asked.spent(counted, || usage::count_output(endpoint, &body, &asked.price))
    };
    reservation.settle(spent);
    let receipt = asked.receipt(times, Some(spent.cost));
    Ok(Reply::Whole(Answer { status, content_type, body, receipt }))
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Why a body is not whole.
enum Broken {
    Lost,
    TooLarge,
}

async fn collect(mut body: Incoming, most: usize) -> Result<Bytes, Broken> {
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken::Lost)?.into_data() else { continue };
        bytes += data.len();
        if bytes > most {
            return Err(Broken::TooLarge);
        }
        match first.take() {
            // Most come in one piece, which need not be copied.
            None if whole.is_empty() => first = Some(data),
            held => {
                whole.extend_from_slice(&held.unwrap_or_default());
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
