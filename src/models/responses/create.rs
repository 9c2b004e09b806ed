//! Making a response while the client waits.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use serde_json::{Map, Value};

use super::events::{Events, Source, replay};
use super::id::ResponseId;
use super::keep::not_stored;
use super::object::{Event, Finished, Head};
use super::relay::{Own, Relay};
use super::request::{Create, CreateBody};
use super::seal::PREFIX;
use super::translate::{ChatEvents, Shape, origin, to_chat, wants_sealed};
use super::{Inner, Responses};
use crate::budgets::Payer;
use crate::http::{Problem, sse};
use crate::models::{Answer, Body, Bound, Call, Endpoint, Receipt, Reply, Streamed, lenient};

/// A request and who makes it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub create: Create,
    pub payer: Payer,
    /// Whether it goes to the built-in echo model.
    pub test: bool,
}

/// What a provider is asked, and how its answer is read.
pub(super) struct Plan {
    pub call: Call,
    /// How to read a chat completion; `None` if the provider has the Responses interface.
    shape: Option<Shape>,
}

/// What comes of a request.
pub(super) enum Made {
    /// The response.
    Whole(Value, Receipt),
    /// What the provider said instead, which is the client's own fault.
    AsItIs(Answer),
    /// Its events as they come.
    Stream(BoxStream<'static, Result<Bytes, Infallible>>, Receipt),
}

impl Inner {
    /// Whether a request goes to a provider that has the interface.
    pub(super) fn has_interface(&self, asked: &Asked) -> bool {
        !asked.test && self.models.has_responses(asked.create.model())
    }

    /// What is to be sent for a request.
    pub(super) async fn plan(&self, asked: &Asked, stream: bool) -> Result<Plan, Problem> {
        let (create, tenant) = (&asked.create, asked.payer.tenant);
        let context = self.context(tenant, create.previous).await?;
        let json = |fields: &Map<String, Value>| serde_json::to_vec(fields).map(Bytes::from).map_err(Problem::internal);
        let (endpoint, body, shape) = if self.has_interface(asked) {
            let fields = create.to_provider(context, stream);
            (Endpoint::Responses, Body::Json(json(&fields)?), None)
        } else {
            let is_sealed = |item: &Value| item["encrypted_content"].as_str().is_some_and(|it| it.starts_with(PREFIX));
            let needs_seal = wants_sealed(create) || create.input.iter().chain(&context).any(is_sealed);
            let seal = if needs_seal { Some(self.seal(tenant).await?) } else { None };
            let restored = self.restored(tenant, &create.input).await?;
            let input = restored.as_deref().unwrap_or(&create.input);
            let chat = to_chat(create, &context, input, stream, &|sealed| seal.as_ref()?.open(sealed))?;
            let (fields, bound) = (chat.fields, Arc::new(Bound::new(chat.members)));
            let shape = Shape { bound: bound.clone(), seal, ..chat.shape };
            (Endpoint::ChatCompletions, Body::Bound(json(&fields)?, bound), Some(shape))
        };
        let call = Call { endpoint, body, payer: asked.payer.clone(), test: asked.test, max_age: None };
        Ok(Plan { call, shape })
    }

    /// Makes the call of a plan. What is wrong with it is said in the words of the
    /// interface that the client speaks.
    pub(super) async fn ask(&self, plan: &Plan) -> Result<Reply, Problem> {
        let reply = self.models.call(plan.call.clone()).await;
        reply.map_err(|problem| if plan.shape.is_none() { problem } else { problem.renamed(origin) })
    }

    /// Makes a response and answers with it, or with its events.
    pub(super) async fn create(self: &Arc<Self>, mut asked: Asked) -> Result<Made, Problem> {
        self.resolve(&mut asked).await?;
        let input = serde_json::to_string(&asked.create.input).map_err(Problem::internal)?;
        if asked.create.store {
            self.admit(&input)?;
        }
        let plan = self.plan(&asked, asked.create.stream).await?;
        let (id, now) = (ResponseId(self.ids.next()), self.clock.now());
        let reply = self.ask(&plan).await?;
        let receipt = match &reply {
            Reply::Whole(answer) => answer.receipt.clone(),
            Reply::Stream(streamed) => streamed.receipt.clone(),
        };
        let head = Head::new(id, &asked.create, &receipt.model, now);
        let own = Own::new(&asked.create, &head);
        let keep = asked.create.store.then(|| Keep {
            inner: self.clone(),
            tenant: asked.payer.tenant,
            previous: asked.create.previous,
            input,
        });
        match reply {
            Reply::Whole(answer) if !(200..300).contains(&answer.status) => Ok(Made::AsItIs(answer)),
            Reply::Whole(answer) => {
                let mut finished = plan.whole(&answer, &own, head.clone())?;
                if let Some(keep) = keep {
                    keep.store(id, &mut finished).await;
                }
                if !asked.create.stream {
                    return Ok(Made::Whole(finished.object, receipt));
                }
                // The provider has answered at once what was to be streamed.
                let frames: Vec<_> = replay(&head, &finished, 0).iter().map(|event| Ok(event.frame())).collect();
                Ok(Made::Stream(futures_util::stream::iter(frames).boxed(), receipt))
            }
            Reply::Stream(streamed) => {
                let source = plan.source(own, head, 0);
                Ok(Made::Stream(Live::new(id, streamed, Events::new(source), keep).frames().boxed(), receipt))
            }
        }
    }
}

impl Responses {
    /// The response to a call that a batch makes, whole. It is kept only where the
    /// call says so: the batch keeps it already.
    ///
    /// # Errors
    /// What the call is to be told.
    pub async fn answer(&self, call: Call) -> Result<Reply, Problem> {
        let Body::Json(body) = &call.body else { return Err(Problem::internal("a response asked for by a form")) };
        let body: CreateBody = serde_json::from_slice(body)
            .map_err(|error| Problem::bad_request("malformed_json", format!("the body is no JSON object: {error}")))?;
        let keeps = body.0.get("store") == Some(&true.into());
        // Neither streams nor background work come here: the batch has refused them.
        let create = Create { store: keeps, stream: false, ..Create::read(body)? };
        match self.0.create(Asked { create, payer: call.payer, test: call.test }).await? {
            Made::Whole(object, receipt) => {
                let body = serde_json::to_vec(&object).map_err(Problem::internal)?.into();
                Ok(Reply::Whole(Answer { status: 200, content_type: "application/json".into(), body, receipt }))
            }
            Made::AsItIs(answer) => Ok(Reply::Whole(answer)),
            Made::Stream(..) => Err(Problem::internal("a whole response that is a stream")),
        }
    }
}

impl Plan {
    /// What reads the provider's stream, from event `next` on.
    pub(super) fn source(&self, own: Own, head: Head, next: i64) -> Source {
        match &self.shape {
            None => Source::Own(Box::new(Relay::new(own, head, next))),
            Some(shape) => Source::Chat(Box::new(ChatEvents::new(head, shape.clone(), next))),
        }
    }

    /// A whole answer as a response.
    pub(super) fn whole(&self, answer: &Answer, own: &Own, head: Head) -> Result<Finished, Problem> {
        let value: Value = lenient::parse(&answer.body).map_err(|error| {
            let detail = "the provider answered with something that is not JSON";
            Problem::new(StatusCode::BAD_GATEWAY, "provider_failed", detail).with_cause(error)
        })?;
        let Some(shape) = &self.shape else { return Ok(own.adopt_whole(value)) };
        let (mut chat, mut events) = (ChatEvents::new(head, shape.clone(), 0), Vec::new());
        chat.answer(value, &mut events);
        chat.finished().cloned().ok_or_else(|| Problem::internal("a whole answer did not end its response"))
    }
}

/// How a response is kept when it has ended.
struct Keep {
    inner: Arc<Inner>,
    tenant: i64,
    previous: Option<ResponseId>,
    input: String,
}

impl Keep {
    async fn store(self, id: ResponseId, finished: &mut Finished) {
        let row = finished.row(id, self.tenant, self.previous, self.input);
        if let Err(error) = self.inner.store(row).await {
            not_stored(finished, &error);
        }
    }
}

/// A response on its way to a client. Dropping it ends the call; then nothing is
/// kept of it.
struct Live {
    id: ResponseId,
    pieces: BoxStream<'static, Bytes>,
    events: Events,
    keep: Option<Keep>,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Live {
    fn new(id: ResponseId, streamed: Streamed, mut events: Events, keep: Option<Keep>) -> Self {
        let mut begun = Vec::new();
        events.begin(&mut begun);
        Self { id, pieces: streamed.pieces, events, keep, ready: begun.into(), ended: false }
    }

    fn frames(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut live| async move { live.next().await.map(|bytes| (Ok(bytes), live)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while self.ready.is_empty() {
            if self.ended {
                return None;
            }
            let mut new = Vec::new();
            match tokio::time::timeout(sse::HEARTBEAT_EVERY, self.pieces.next()).await {
                Err(_) => return Some(Bytes::from_static(sse::HEARTBEAT)),
                Ok(Some(bytes)) => {
                    self.events.push(&bytes, &mut new);
                    // Comments keep the client waiting, too.
                    if new.is_empty() && bytes.starts_with(b":") {
                        return Some(Bytes::from_static(sse::HEARTBEAT));
                    }
                }
                Ok(None) => self.events.end(&mut new),
            }
            if self.events.finished().is_some() {
                self.ended = true;
                // Whoever sees the end can ask for the response.
                self.store(&mut new).await;
            }
            self.ready = new.into();
        }
        let mut frames = BytesMut::new();
        for event in self.ready.drain(..) {
            frames.extend_from_slice(&event.frame());
        }
        Some(frames.freeze())
    }

    async fn store(&mut self, new: &mut [Event]) {
        let (Some(keep), Some(finished)) = (self.keep.take(), self.events.finished()) else { return };
        let mut finished = finished.clone();
        keep.store(self.id, &mut finished).await;
        if finished.object["store"] == false
            && let Some(last) = new.last_mut()
        {
            *last = Event::new(last.seq, last.kind.clone(), serde_json::json!({ "response": finished.object }));
        }
    }
}
