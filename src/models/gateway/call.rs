//! A call's way: past the budgets and breakers, from provider to provider, until
//! one has answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use super::attempt::{Asked, attempt};
use super::cache::Key;
use super::failure::{Again, Failure};
use super::provider::{LOW_COST, Route, Step};
use super::quirks::Quirks;
use super::request::{Request, Written};
use super::{Inner, early, echo};
use crate::budgets::{OnExhausted, Payer, Planned, Refused, Reservation};
use crate::http::Problem;
use crate::models::estimate::Estimate;
use crate::models::price::Price;
use crate::models::{Answer, Call, Endpoint, Receipt, Reply};
use crate::money::Usd;

/// The code of a problem with a model that nobody has priced.
const UNKNOWN_PRICE: &str = "unknown_price";
/// Before the same provider is asked again; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// When a provider wants a longer one, another is asked.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a call waits for a place at its provider.
const PLACE: Duration = Duration::from_secs(5);
/// Bytes of a request that are counted where it is answered.
const COUNTED_HERE: usize = 32 << 10;
/// An answer shorter than this many tokens helps nobody.
const LEAST_OUTPUT: u64 = 16;

/// When a call came and how long it has waited for providers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub begun: Instant,
    pub waited: Duration,
}

impl Times {
    /// What the service itself has taken so far.
    pub(super) fn overhead(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.waited)
    }
}

/// Why a call has not been answered on its way.
enum Stop {
    /// A provider has failed; the next one may be asked.
    Failed(Failure),
    /// A budget cannot pay.
    Unpaid(Refused),
    /// Nobody could answer it.
    Refused(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// What a call is about to be made with.
struct Paid {
    request: Request,
    written: Written,
    estimate: Estimate,
    reservation: Reservation,
    /// Whether a budget has limited the output.
    reduced: bool,
}

impl Inner {
    pub(super) async fn call(self: &Arc<Self>, call: Call) -> Result<Reply, Problem> {
        let mut times = Times { begun: Instant::now(), waited: Duration::ZERO };
        let earlier = call.max_age.and_then(|max_age| Some((Key::of(&call)?, max_age)));
        let request = Request::read(call.endpoint, call.body)?;
        if call.test {
            return echo::reply(&request);
        }
        if request.stream {
            return early::answer(self, request, call.payer, times).await;
        }
        let Some((key, max_age)) = earlier else {
            return self.answer(&request, &call.payer, &mut times).await;
        };
        let table = self.table();
        if let Some((answer, age)) = self.cache.find(&key, max_age, self.clock.now()) {
            return Ok(Reply::Whole(self.once_more(answer, age, &call.payer, &times)));
        }
        let reply = self.answer(&request, &call.payer, &mut times).await?;
        self.cache.keep(key, &reply, self.clock.now());
        if !Arc::ptr_eq(&table, &self.table()) {
            // What it was asked of has changed meanwhile.
            self.cache.forget(&key);
        }
        Ok(reply)
    }

    /// An answer that was paid for before.
    fn once_more(&self, answer: Answer, age: Duration, payer: &Payer, times: &Times) -> Answer {
        self.metrics.once_more();
        let receipt = Receipt {
            cost: Some(Usd::ZERO),
            left: self.budgets.left(payer),
            overhead: times.overhead(),
            age: Some(age),
            ..answer.receipt
        };
        Answer { receipt, ..answer }
    }

    /// Has the request answered along its route, or along the cheaper one when
    /// there is no money for that.
    pub(super) async fn answer(
        self: &Arc<Self>,
        request: &Request,
        payer: &Payer,
        times: &mut Times,
    ) -> Result<Reply, Problem> {
        let table = self.table();
        let route = table.route(&request.model)?;
        match self.along(&route, request, payer, times).await {
            Ok(reply) => Ok(reply),
            Err(Stop::Failed(failure)) => self.failed(failure, payer, times),
            Err(Stop::Refused(problem)) => Err(problem),
            Err(Stop::Unpaid(refused)) => {
                let downgrades = matches!(refused, Refused::Exhausted(_))
                    && self.budgets.on_exhausted(payer.tenant) == OnExhausted::Downgrade
                    && request.model != LOW_COST
                    && table.aliases.contains_key(LOW_COST);
                if downgrades {
                    let cheaper = table.route(LOW_COST)?;
                    if let Ok(reply) = self.along(&cheaper, request, payer, times).await {
                        return Ok(reply.reduced());
                    }
                }
                Err(self.budgets.problem(refused))
            }
        }
    }

    /// What the client gets when the last of all providers has failed.
    fn failed(&self, failure: Failure, payer: &Payer, times: &Times) -> Result<Reply, Problem> {
        let Some(passed) = failure.passed else { return Err(failure.problem) };
        let (status, body) = *passed;
        let receipt = Receipt {
            cost: Some(Usd::ZERO),
            model: "".into(),
            provider: "".into(),
            fallbacks: 0,
            left: self.budgets.left(payer),
            overhead: times.overhead(),
            reduced: false,
            age: None,
        };
        Ok(Reply::Whole(Answer { status, content_type: "application/json".into(), body, receipt }))
    }

    /// Asks one after the other.
    async fn along(
        self: &Arc<Self>,
        route: &Route,
        request: &Request,
        payer: &Payer,
        times: &mut Times,
    ) -> Result<Reply, Stop> {
        let (mut failed, mut refused) = (None, None);
        for (place, step) in route.steps.iter().enumerate() {
            // Who is asked first has it, or it would not be asked for.
            if request.endpoint == Endpoint::Responses && !step.provider.settings.responses {
                continue;
            }
            let failure = if step.provider.health.is_shut(&step.model, self.clock.now()) {
                self.breaker_open(step)
            } else {
                match self.at(step, route.bare, request, payer, times).await {
                    Ok(reply) => return Ok(reply.after(u32::try_from(place).unwrap_or(u32::MAX))),
                    Err(Stop::Failed(failure)) => failure,
                    // That one target cannot be asked is no answer while another has failed, or can be.
                    Err(Stop::Refused(problem)) if failed.is_some() || problem.code() == UNKNOWN_PRICE => {
                        refused.get_or_insert(problem);
                        continue;
                    }
                    Err(other) => return Err(other),
                }
            };
            if place + 1 < route.steps.len() {
                self.metrics.fallback(&step.provider.name);
            }
            failed = Some(failure);
        }
        let none = || Problem::internal("a route without steps");
        Err(failed.map_or_else(|| Stop::Refused(refused.unwrap_or_else(none)), Stop::Failed))
    }

    /// Asks one provider, again where that makes sense.
    async fn at(
        self: &Arc<Self>,
        step: &Step,
        bare: bool,
        request: &Request,
        payer: &Payer,
        times: &mut Times,
    ) -> Result<Reply, Stop> {
        let (provider, model) = (&step.provider, &step.model);
        let price = self.prices.of(&provider.name, model).ok_or_else(|| self.without_price(step, bare))?;
        let known = provider.health.quirks(model);
        let (mut quirks, mut tries) = (known, 0);
        loop {
            // A place first: who goes away while waiting for one has made no call.
            let permit = match self.place(step).await {
                Ok(permit) => permit,
                Err(failure) => {
                    self.metrics.call(&provider.name, failure.outcome);
                    return Err(Stop::Failed(failure));
                }
            };
            let paid = self.pay(step, request, quirks, payer, &price).await?;
            // Last, so that the one call that may try is one that is made.
            if !step.provider.health.admits(model, self.clock.now()) {
                paid.reservation.release();
                return Err(Stop::Failed(self.breaker_open(step)));
            }
            let asked = Asked {
                gateway: self.clone(),
                step: step.clone(),
                request: paid.request,
                price: price.clone(),
                estimate: paid.estimate,
                payer: payer.clone(),
                reduced: paid.reduced,
                quirks,
                _permit: permit,
            };
            let failure = match attempt(asked, paid.written, paid.reservation, times).await? {
                Ok(reply) => {
                    if quirks != known && reply.succeeded() {
                        provider.health.learn(model, quirks);
                    }
                    return Ok(reply);
                }
                Err(failure) => failure,
            };
            let pause = match failure.again {
                Again::Adapted(learned) => {
                    tracing::info!(provider = %provider.name, %model, ?learned, "a request is adapted and sent again");
                    quirks = learned;
                    continue;
                }
                Again::After(pause) if tries + 1 < self.attempts => pause.unwrap_or(FIRST_PAUSE * (1 << tries.min(8))),
                _ => return Err(Stop::Failed(failure)),
            };
            if pause > LONGEST_PAUSE {
                return Err(Stop::Failed(failure));
            }
            tries += 1;
            times.waited += pause;
            tokio::time::sleep(pause).await;
        }
    }

    fn breaker_open(&self, step: &Step) -> Failure {
        self.metrics.call(&step.provider.name, "busy");
        Failure::breaker_open(&step.provider.name)
    }

    /// Reserves what the call can cost; limits its output where the budget cannot
    /// pay for all of it and the tenant wants it so.
    async fn pay(
        &self,
        step: &Step,
        request: &Request,
        quirks: Quirks,
        payer: &Payer,
        price: &Arc<Price>,
    ) -> Result<Paid, Stop> {
        let request = request.for_step(step).bounded(price);
        let estimate = estimate(&request, price).await?;
        let refused = match self.reserve(step, request.clone().adapted(quirks), payer, estimate).await {
            Err(Stop::Unpaid(refused @ Refused::Exhausted(_))) => refused,
            ended => return ended,
        };
        if self.budgets.on_exhausted(payer.tenant) != OnExhausted::Clamp {
            return Err(Stop::Unpaid(refused));
        }
        let left = self.budgets.left(payer).unwrap_or(Usd::MAX);
        let Some(output) = affordable(price, &estimate, left) else { return Err(Stop::Unpaid(refused)) };
        let Some(request) = request.limited(output, &step.model) else { return Err(Stop::Unpaid(refused)) };
        let estimate = self::estimate(&request, price).await?;
        let paid = self.reserve(step, request.adapted(quirks), payer, estimate).await?;
        Ok(Paid { reduced: true, ..paid })
    }

    /// Reserves what the call can cost, and writes the request while that comes to disk.
    async fn reserve(&self, step: &Step, request: Request, payer: &Payer, estimate: Estimate) -> Result<Paid, Stop> {
        let planned = Planned {
            model: step.model.clone(),
            provider: step.provider.name.clone(),
            purpose: request.endpoint.purpose(),
            amount: estimate.most,
        };
        let write = async { request.written(&step.model) };
        let (reserved, written) = tokio::join!(self.budgets.reserve(payer, planned), write);
        let reservation = reserved.map_err(Stop::Unpaid)?;
        match written {
            Ok(written) => Ok(Paid { request, written, estimate, reservation, reduced: false }),
            Err(problem) => {
                reservation.release();
                Err(problem.into())
            }
        }
    }

    /// A place at the provider.
    async fn place(&self, step: &Step) -> Result<OwnedSemaphorePermit, Failure> {
        let places = step.provider.health.places.clone();
        match tokio::time::timeout(PLACE, places.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Failure::busy(&step.provider.name)),
        }
    }

    /// What costs nobody knows how much is not called.
    fn without_price(&self, step: &Step, bare: bool) -> Problem {
        let (detail, hint) = super::names::unpriced(&self.table(), &step.provider.name, &step.model, bare);
        // Clients know by this that a name leads nowhere, whatever could be set so that it does.
        let problem = if bare {
            Problem::new(StatusCode::NOT_FOUND, "model_not_found", detail)
        } else {
            Problem::new(StatusCode::BAD_REQUEST, UNKNOWN_PRICE, detail)
        };
        problem.with_hint(hint)
    }
}

/// What a request can cost at most. Counting a large one takes as long as some
/// thousand other requests, so it does not happen on a thread that answers them.
async fn estimate(request: &Request, price: &Arc<Price>) -> Result<Estimate, Problem> {
    if request.bytes() < COUNTED_HERE {
        return request.estimate(price);
    }
    let (request, price) = (request.clone(), price.clone());
    tokio::task::spawn_blocking(move || request.estimate(&price)).await.map_err(Problem::internal)?
}

/// The most output that an amount pays for after the input; `None` where that is
/// next to nothing.
fn affordable(price: &Price, estimate: &Estimate, left: Usd) -> Option<u64> {
    let pays = |output: u64| price.most(estimate.input, output) <= left;
    if !pays(LEAST_OUTPUT) {
        return None;
    }
    let (mut low, mut high) = (LEAST_OUTPUT, estimate.output.max(LEAST_OUTPUT));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if pays(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Some(low)
}

impl Endpoint {
    /// What it is called in the ledger.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::AudioTranscriptions => "audio.transcriptions",
            Self::AudioSpeech => "audio.speech",
        }
    }

    /// Where it is, below a provider's base URL.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Responses => "/responses",
            Self::Embeddings => "/embeddings",
            Self::AudioTranscriptions => "/audio/transcriptions",
            Self::AudioSpeech => "/audio/speech",
        }
    }
}
