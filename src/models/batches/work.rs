//! The calls of a batch: some at the same time, each on disk before it is made
//! and once it has ended, so that nothing is paid for twice.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::ResponseError as _;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::{self, Line};
use super::lines::{Lines, NoLine, RawLine, part};
use super::run::{Running, SliceError};
use super::types::{Batch, LineEnd, OpenLine};
use super::{Inner, Pace, sql};
use crate::budgets::{EXCEEDED, Payer};
use crate::clock::Timestamp;
use crate::db;
use crate::http::Problem;
use crate::models::{Body, Call, Endpoint, Reply};

/// Times that a line is called while a provider fails; one that is told to wait
/// is called as long as the window lasts.
const MOST_ATTEMPTS: u32 = 20;
/// The pause before a write that failed for want of space is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);
/// What has to wait longer gives its place to other work.
const LONG: Duration = Duration::from_secs(5);

/// Where a batch stands when nothing of it is being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worked {
    /// Every line has ended.
    All,
    /// Its window has.
    Expired,
    /// There is more, from then on.
    More(Timestamp),
}

/// What is done in one go.
pub(super) struct Work<'a> {
    inner: &'a Inner,
    batch: &'a Batch,
    endpoint: Endpoint,
    running: &'a Running,
    until: Instant,
    source: Mutex<Source>,
}

/// What is to be called next.
struct Source {
    waiting: VecDeque<OpenLine>,
    lines: Lines,
    at_end: bool,
    /// Whether a line was read and could not be begun.
    broken: bool,
}

/// How a call ended.
enum Called {
    End(LineEnd),
    /// It is tried again, at the earliest after this, if it has not been too often.
    Again {
        end: LineEnd,
        pause: Option<Duration>,
        counts: bool,
    },
}

impl<'a> Work<'a> {
    pub(super) async fn new(
        inner: &'a Inner,
        batch: &'a Batch,
        endpoint: Endpoint,
        running: &'a Running,
    ) -> Result<Self, SliceError> {
        let no = batch.id.no();
        let waiting = inner.db.read(move |tx| sql::open_lines(tx, no, "waiting")).await?;
        let lines = Lines::from(inner.files.clone(), batch.input.no(), batch.next);
        let source = Mutex::new(Source { waiting: waiting.into(), lines, at_end: false, broken: false });
        Ok(Self { inner, batch, endpoint, running, until: Instant::now() + inner.pace.slice, source })
    }

    /// Calls lines until all are done or it is time for others.
    pub(super) async fn go(self) -> Result<Worked, SliceError> {
        let places = (0..self.inner.concurrency).map(|_| self.place());
        // What the others are calling ends, also when one of them cannot go on.
        join_all(places).await.into_iter().collect::<Result<Vec<()>, _>>()?;
        if self.running.stop.is_cancelled() {
            return Ok(Worked::More(self.inner.clock.now()));
        }
        let no = self.batch.id.no();
        let waiting = self.inner.db.read(move |tx| sql::open_lines(tx, no, "waiting")).await?;
        let at_end = self.source.lock().await.at_end;
        if at_end && waiting.is_empty() {
            return Ok(Worked::All);
        }
        let now = self.inner.clock.now();
        if now >= self.batch.times.expires {
            return Ok(Worked::Expired);
        }
        // Where every place waits, nothing can be done before the first of them.
        let first =
            waiting.iter().map(|line| line.due).min().filter(|_| waiting.len() >= self.places(at_end, &waiting));
        Ok(Worked::More(first.unwrap_or(now).min(self.batch.times.expires)))
    }

    /// Lines that there could be calls of.
    fn places(&self, at_end: bool, waiting: &[OpenLine]) -> usize {
        if at_end { waiting.len().max(1) } else { self.inner.concurrency }
    }

    fn goes_on(&self) -> bool {
        !self.running.stop.is_cancelled()
            && !self.running.rest.load(Ordering::Acquire)
            && !self.inner.is_draining()
            && Instant::now() < self.until
            && self.inner.clock.now() < self.batch.times.expires
    }

    /// One of those that call at the same time.
    async fn place(&self) -> Result<(), SliceError> {
        while self.goes_on() {
            let Some((line, text)) = self.take().await? else { return Ok(()) };
            if !self.line(line, text).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next line; a new one is on disk as being called.
    async fn take(&self) -> Result<Option<(OpenLine, Option<Bytes>)>, SliceError> {
        let mut source = self.source.lock().await;
        if let Some(line) = source.waiting.pop_front() {
            return Ok(Some((line, None)));
        }
        // A line that was read and could not be begun is read again by the next
        // who works on the batch; nobody may go on behind it.
        if std::mem::replace(&mut source.broken, true) {
            return Ok(None);
        }
        let RawLine { place, text } = match source.lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => {
                source.at_end = true;
                source.broken = false;
                return Ok(None);
            }
            Err(NoLine::Database(error)) => return Err(error.into()),
            Err(error @ NoLine::TooLong(_)) => return Err(SliceError::Input(error.to_string())),
        };
        if self.inner.db.nearly_full() {
            return Err(SliceError::NoSpace);
        }
        let line = OpenLine { place, length: text.len() as u64, attempts: 0, due: self.inner.clock.now() };
        let (no, next) = (self.batch.id.no(), source.lines.place());
        self.inner.db.write(move |tx| sql::begin_line(tx, no, &line, next)).await?;
        source.broken = false;
        Ok(Some((line, Some(text))))
    }

    /// Calls a line until it has ended; whether it has. One that has to wait for
    /// long keeps its place meanwhile, so that not every line is tried in vain.
    /// `text` is there for a new one, which is on disk as being called.
    async fn line(&self, mut open: OpenLine, text: Option<Bytes>) -> Result<bool, SliceError> {
        let mut is_new = text.is_some();
        let text = match text {
            Some(text) => text,
            None => part(&self.inner.files, self.batch.input.no(), open.place.start, open.length).await?,
        };
        let line = line::read(&text, &self.batch.endpoint);
        let line = line.map_err(|fault| SliceError::Input(format!("line {}: {}", open.place.line, fault.message)))?;
        drop(text);
        let no = self.batch.id.no();
        loop {
            if !is_new {
                if !self.wait_for(open.due).await {
                    return Ok(false);
                }
                let line = open.place.line;
                self.inner.db.write(move |tx| sql::call_again(tx, no, line)).await?;
            }
            is_new = false;
            let called = tokio::select! {
                biased;
                // It stays on disk as being called: it may have been paid for.
                () = self.running.stop.cancelled() => return Ok(false),
                called = self.call(&line) => called,
            };
            let (end, pause, counts) = match called {
                Called::End(end) => return self.end(open, end).await.map(|()| true),
                Called::Again { end, pause, counts } => (end, pause, counts),
            };
            open.attempts += u32::from(counts);
            if open.attempts >= MOST_ATTEMPTS {
                return self.end(open, end).await.map(|()| true);
            }
            let pause = pause.unwrap_or_default().max(self.inner.pace.pause(open.attempts));
            open.due = self.inner.clock.now().plus(pause).min(self.batch.times.expires);
            self.must_write(move |tx| sql::wait_line(tx, no, &open)).await?;
        }
    }

    /// Waits for a moment; whether it has come.
    async fn wait_for(&self, due: Timestamp) -> bool {
        let left = due.since(self.inner.clock.now());
        if left > LONG || Instant::now() + left > self.until {
            return false;
        }
        let waited = self.running.stop.run_until_cancelled(tokio::time::sleep(left)).await;
        waited.is_some() && self.goes_on()
    }

    async fn call(&self, line: &Line) -> Called {
        let batch = self.batch;
        let payer = Payer {
            tenant: batch.tenant,
            key: batch.key.as_deref().map(Into::into),
            session: batch.session.as_deref().map(Into::into),
            job: None,
        };
        let call = Call {
            endpoint: self.endpoint,
            body: Body::Json(line.body.clone()),
            payer,
            test: batch.test,
            max_age: None,
        };
        let id = &line.custom_id;
        match (self.inner.call)(call).await {
            Ok(Reply::Whole(answer)) => {
                let end = line::answered(id, answer.status, &answer.body);
                match answer.status {
                    429 => Called::Again { end, pause: Some(self.inner.pace.busy), counts: false },
                    500.. => Called::Again { end, pause: None, counts: true },
                    _ => Called::End(end),
                }
            }
            Ok(Reply::Stream(_)) => Called::End(line::failed(id, "unexpected_stream", "the answer came as a stream")),
            Err(problem) => refused(id, &problem, &self.inner.pace),
        }
    }

    async fn end(&self, open: OpenLine, end: LineEnd) -> Result<(), SliceError> {
        let (no, line) = (self.batch.id.no(), open.place.line);
        self.must_write(move |tx| sql::end_line(tx, no, line, &end)).await
    }

    /// Writes what became of a call, again and again while the disk does not take
    /// it: what has been paid for must not be lost for want of space.
    async fn must_write(
        &self,
        work: impl Fn(&db::Tx<'_>) -> Result<(), db::Error> + Clone + Send + 'static,
    ) -> Result<(), SliceError> {
        loop {
            match self.inner.db.write(work.clone()).await {
                Err(error) if error.is_passing() && error != db::Error::Closed => {
                    if self.running.stop.run_until_cancelled(tokio::time::sleep(WRITE_AGAIN)).await.is_none() {
                        return Err(error.into());
                    }
                }
                written => return Ok(written?),
            }
        }
    }
}

/// What becomes of a line whose call was refused by the gateway.
fn refused(id: &str, problem: &Problem, pace: &Pace) -> Called {
    let end = line::refused(id, problem);
    let pause = problem.retry_after().map(Duration::from_secs);
    if problem.code() == EXCEEDED {
        // It may be raised, or roll on, at any time within the window.
        return Called::Again { end, pause: Some(pause.unwrap_or(pace.budget).min(pace.budget)), counts: false };
    }
    match problem.status_code().as_u16() {
        _ if problem.is_paid_for() => Called::End(end),
        429 => Called::Again { end, pause: Some(pause.unwrap_or(pace.busy)), counts: false },
        408 | 500.. => Called::Again { end, pause, counts: true },
        _ => Called::End(end),
    }
}
