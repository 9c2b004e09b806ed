//! Streams whose provider is slow to begin. Proxies and clients give up on a
//! connection that is silent for a minute, and a model that reasons can be silent
//! for many: so a stream begins after some seconds, whether or not a provider
//! has begun, and comments keep it open while providers are still asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::timeout;

use super::call::Times;
use super::relay::EVENTS;
use super::request::Request;
use super::{Inner, words};
use crate::budgets::Payer;
use crate::http::Problem;
use crate::http::sse::{HEARTBEAT, HEARTBEAT_EVERY};
use crate::models::{Endpoint, Receipt, Reply, Streamed};

/// How long the head of an answer waits for a provider.
const HEAD_WITHIN: Duration = Duration::from_secs(14);

type Answering = BoxFuture<'static, Result<Reply, Problem>>;

/// Has a stream answered. Errors that come too late for a status come as an event.
pub(super) async fn answer(
    gateway: &Arc<Inner>,
    request: Request,
    payer: Payer,
    times: Times,
) -> Result<Reply, Problem> {
    let endpoint = request.endpoint;
    let (asked, paying) = (gateway.clone(), payer.clone());
    let mut answering: Answering = Box::pin({
        let request = request.clone();
        async move {
            let mut times = times;
            asked.answer(&request, &paying, &mut times).await
        }
    });
    match timeout(HEAD_WITHIN, &mut answering).await {
        Ok(answered) => answered,
        Err(_) => {
            let receipt = receipt(gateway, &request.model, &payer, times);
            let waiting = Waiting { endpoint, state: State::Asking(answering), is_first: true };
            let pieces = stream::unfold(waiting, Waiting::next).boxed();
            Ok(Reply::Stream(Streamed { content_type: EVENTS.into(), pieces, receipt }))
        }
    }
}

/// What is known of a call that nobody has answered: whom it goes to first.
fn receipt(gateway: &Inner, model: &str, payer: &Payer, times: Times) -> Receipt {
    let route = gateway.table().route(model).ok();
    let step = route.as_ref().and_then(|route| route.steps.first());
    Receipt {
        cost: None,
        model: step.map_or_else(|| model.into(), |step| step.model.clone()),
        provider: step.map_or_else(|| "".into(), |step| step.provider.name.clone()),
        fallbacks: 0,
        left: gateway.budgets.left(payer),
        overhead: times.overhead().saturating_sub(HEAD_WITHIN),
        reduced: false,
        age: None,
    }
}

/// A stream that may have begun before its provider has.
struct Waiting {
    endpoint: Endpoint,
    state: State,
    is_first: bool,
}

enum State {
    Asking(Answering),
    Answered(BoxStream<'static, Bytes>),
    Over,
}

impl Waiting {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if std::mem::take(&mut self.is_first) {
            return Some((Bytes::from_static(HEARTBEAT), self));
        }
        if let State::Asking(answering) = &mut self.state {
            let Ok(answered) = timeout(HEARTBEAT_EVERY, answering).await else {
                return Some((Bytes::from_static(HEARTBEAT), self));
            };
            let error = match answered {
                Ok(Reply::Stream(streamed)) => {
                    self.state = State::Answered(streamed.pieces);
                    None
                }
                Ok(Reply::Whole(answer)) => Some(words::passed(self.endpoint, &answer.body)),
                Err(problem) => Some(words::problem(self.endpoint, &problem)),
            };
            if let Some(error) = error {
                self.state = State::Over;
                return Some((error, self));
            }
        }
        let State::Answered(pieces) = &mut self.state else { return None };
        let piece = pieces.next().await?;
        Some((piece, self))
    }
}
