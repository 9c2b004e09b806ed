//! Reading a form from a request, within limits of size and time, part by part.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use futures_util::{FutureExt as _, stream};
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Form, Part, plain};
use crate::http::header::content_type;
use crate::http::openapi::{Describe, Operation};
use crate::http::{BodyLimits, Problem};

/// Parts that a form may have.
const MAX_PARTS: usize = 64;
/// Bytes that may arrive before the head of the next part has ended.
const MAX_HEAD: usize = 16 << 10;
/// Characters of a boundary; RFC 2046 allows 70.
const MAX_BOUNDARY: usize = 70;
/// Characters of a field's or a file's name.
const MAX_NAME: usize = 255;
/// Slower than so many bytes a second over the whole, a client is given up.
const SLOWEST: u64 = 32 << 10;

/// What a form may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::models) struct FormLimits {
    /// Bytes of the whole.
    pub bytes: u64,
    /// The longest that nothing may come.
    pub stall: Duration,
}

impl FormLimits {
    /// The longest that the whole may take.
    fn time(&self) -> Duration {
        self.stall + Duration::from_secs(self.bytes / SLOWEST)
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The body came to no end, or to too early a one.
#[derive(Debug, thiserror::Error)]
#[error("the head of a part is longer than {MAX_HEAD} bytes")]
struct HeadTooLong;

/// Lets the parser have one chunk at a time: it takes all that there is, also
/// while it only looks for the end of a head.
struct Gate {
    body: BoxStream<'static, Result<Bytes, Failed>>,
    /// Bytes that were taken since the last part's content ended.
    taken: Arc<AtomicUsize>,
    paused: bool,
}

impl Stream for Gate {
    type Item = Result<Bytes, Failed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.paused) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.taken.load(Ordering::Relaxed) > MAX_HEAD {
            return Poll::Ready(Some(Err(HeadTooLong.into())));
        }
        let next = self.body.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            self.paused = true;
            self.taken.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        next
    }
}

/// A form as it arrives.
pub(in crate::models) struct FormReader {
    parser: Multipart<'static>,
    taken: Arc<AtomicUsize>,
    parts: usize,
    limits: FormLimits,
    deadline: Instant,
}

/// A part as it arrives.
pub(in crate::models) struct PartReader<'f> {
    /// The field's name.
    pub name: String,
    /// The file's name, where it is one.
    pub file_name: Option<String>,
    /// The type that it is said to have.
    pub content_type: Option<String>,
    field: Field<'static>,
    form: &'f FormReader,
}

impl FormReader {
    /// Reads a body whose parts are separated by `boundary`.
    pub(in crate::models) fn new(
        boundary: &str,
        body: impl Stream<Item = Result<Bytes, Failed>> + Send + 'static,
        limits: FormLimits,
    ) -> Self {
        let taken = Arc::new(AtomicUsize::new(0));
        let gate = Gate { body: body.boxed(), taken: taken.clone(), paused: false };
        let constraints = Constraints::new().size_limit(SizeLimit::new().whole_stream(limits.bytes));
        let parser = Multipart::with_constraints(gate, boundary, constraints);
        Self { parser, taken, parts: 0, limits, deadline: Instant::now() + limits.time() }
    }

    /// The next part; what was not read of the one before is passed over.
    ///
    /// # Errors
    /// When the form breaks a limit, or is none.
    pub(in crate::models) async fn next(&mut self) -> Result<Option<PartReader<'_>>, Problem> {
        self.taken.store(0, Ordering::Relaxed);
        let place = self.parts + 1;
        let deadline = self.until();
        let field = tokio::time::timeout_at(deadline, self.parser.next_field()).await;
        let field =
            field.map_err(|_| self.too_slow())?.map_err(|error| self.fault(&error, &format!("part {place}")))?;
        let Some(field) = field else { return Ok(None) };
        if place > MAX_PARTS {
            return Err(Problem::bad_request("invalid_request", format!("the form has more than {MAX_PARTS} parts")));
        }
        self.parts = place;
        let name = field.name().unwrap_or_default();
        if name.is_empty() || name.chars().count() > MAX_NAME || name != plain(name) {
            let detail = format!("part {place} of the form needs a name of 1 to {MAX_NAME} plain characters");
            return Err(Problem::bad_request("invalid_request", detail));
        }
        Ok(Some(PartReader {
            name: name.to_owned(),
            file_name: field.file_name().map(|name| plain(name).chars().take(MAX_NAME).collect()),
            content_type: field.content_type().map(ToString::to_string),
            field,
            form: self,
        }))
    }

    /// All parts, in memory.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(in crate::models) async fn whole(mut self) -> Result<Form, Problem> {
        let mut form = Form::default();
        while let Some(mut part) = self.next().await? {
            let mut body = BytesMut::new();
            while let Some(piece) = part.piece().await? {
                body.extend_from_slice(&piece);
            }
            let PartReader { name, file_name, content_type, .. } = part;
            form.parts.push(Part { name, file_name, content_type, body: body.freeze() });
        }
        Ok(form)
    }

    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + self.limits.stall)
    }

    fn too_slow(&self) -> Problem {
        let detail = format!("the form did not arrive: nothing came for {} s", self.limits.stall.as_secs_f32());
        let detail = if Instant::now() < self.deadline { detail } else { "the form arrives too slowly".into() };
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    fn fault(&self, error: &multer::Error, place: &str) -> Problem {
        match error {
            multer::Error::StreamSizeExceeded { .. } => too_large(self.limits.bytes),
            multer::Error::StreamReadFailed(cause) if cause.is::<HeadTooLong>() => {
                Problem::bad_request("invalid_request", format!("{place} of the form: {cause}"))
            }
            multer::Error::StreamReadFailed(cause) => {
                Problem::bad_request("incomplete_body", format!("the body did not arrive whole: {cause}"))
            }
            multer::Error::IncompleteStream
            | multer::Error::IncompleteFieldData { .. }
            | multer::Error::IncompleteHeaders => {
                let detail = format!("the form ends in the middle of {place}");
                Problem::bad_request("incomplete_body", detail)
                    .with_hint("it must end with the boundary between two pairs of hyphens")
            }
            other => Problem::bad_request("invalid_request", format!("{place} of the form cannot be read: {other}")),
        }
    }
}

impl PartReader<'_> {
    /// More of its content; `None` at its end.
    ///
    /// # Errors
    /// When the form breaks a limit, or is none.
    pub(in crate::models) async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        let form = self.form;
        // What is taken now is content, whose size others bound.
        form.taken.store(0, Ordering::Relaxed);
        let piece = tokio::time::timeout_at(form.until(), self.field.chunk()).await;
        let piece = piece.map_err(|_| form.too_slow())?;
        piece.map_err(|error| form.fault(&error, &format!("part {} ({})", form.parts, self.name)))
    }

    /// Its content as text, where it is short.
    ///
    /// # Errors
    /// When it is long or no UTF-8; as [`piece`](Self::piece).
    pub(in crate::models) async fn text(&mut self) -> Result<String, Problem> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece().await? {
            text.extend_from_slice(&piece);
            if text.len() > MAX_HEAD {
                return Err(Problem::invalid(format!("/{}", self.name), format!("is longer than {MAX_HEAD} bytes")));
            }
        }
        String::from_utf8(text).map_err(|_| Problem::invalid(format!("/{}", self.name), "is no text in UTF-8"))
    }
}

fn too_large(limit: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", format!("the body is larger than {limit} bytes"))
}

/// The boundary that a request's head names.
fn boundary(headers: &HeaderMap) -> Result<String, Problem> {
    let wrong = |detail: String| {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
            .with_hint("send the fields as multipart/form-data, as curl -F does")
    };
    let Some(kind) = content_type(headers) else {
        return Err(wrong("the body has no type, this route takes multipart/form-data".into()));
    };
    if !kind.is("multipart/form-data") {
        return Err(wrong(format!("the body is {kind}, this route takes multipart/form-data")));
    }
    match kind.parameter("boundary") {
        Some(boundary) if (1..=MAX_BOUNDARY).contains(&boundary.len()) => Ok(boundary.to_owned()),
        Some(_) => Err(wrong(format!("the form's boundary must have 1 to {MAX_BOUNDARY} characters"))),
        None => Err(wrong("the body's type names no boundary".into())),
    }
}

/// The argument of a route that reads a form as it arrives.
pub(in crate::models) struct FormBody {
    boundary: Result<String, Problem>,
    length: Option<u64>,
    stall: Duration,
    payload: dev::Payload,
}

impl FromRequest for FormBody {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let limits = request.app_data::<web::Data<BodyLimits>>().map(|limits| ***limits);
        let limits = limits.ok_or_else(|| Problem::internal("no body limits are configured"));
        std::future::ready(limits.map(|limits| Self {
            boundary: boundary(request.headers()),
            length,
            stall: limits.time,
            payload: payload.take(),
        }))
    }
}

impl FormBody {
    /// Begins to read, up to so many bytes.
    ///
    /// # Errors
    /// What can be told from the request's head.
    pub(in crate::models) fn read(self, bytes: u64) -> Result<FormReader, Problem> {
        let boundary = self.boundary?;
        if self.length.is_some_and(|length| length > bytes) {
            return Err(too_large(bytes));
        }
        Ok(FormReader::new(&boundary, sendable(self.payload), FormLimits { bytes, stall: self.stall }))
    }
}

/// A request's body for a parser that may be moved between threads, which the
/// body may not be: a task of this thread hands it over, one chunk ahead.
fn sendable(mut payload: dev::Payload) -> impl Stream<Item = Result<Bytes, Failed>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    actix_web::rt::spawn(async move {
        loop {
            let next = tokio::select! {
                biased;
                () = sender.closed() => return,
                next = payload.next() => next,
            };
            let Some(chunk) = next else { return };
            let chunk = chunk.map_err(|error| Failed::from(error.to_string()));
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

/// A form that is kept in memory, of at most `MAX` bytes.
pub(in crate::models) struct WholeForm<const MAX: u64>(pub Form);

impl<const MAX: u64> FromRequest for WholeForm<MAX> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let body = FormBody::from_request(request, payload).into_inner();
        async move { body?.read(MAX)?.whole().await.map(Self) }.boxed_local()
    }
}

/// What both can answer with.
fn faults(operation: Operation) -> Operation {
    operation
        .problems(StatusCode::BAD_REQUEST, &["incomplete_body", "invalid_request"])
        .problems(StatusCode::REQUEST_TIMEOUT, &["request_timeout"])
        .problems(StatusCode::PAYLOAD_TOO_LARGE, &["payload_too_large"])
        .problems(StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported_media_type"])
}

impl Describe for FormBody {
    fn describe(operation: Operation) -> Operation {
        faults(operation)
    }
}

impl<const MAX: u64> Describe for WholeForm<MAX> {
    fn describe(operation: Operation) -> Operation {
        faults(operation)
    }
}
