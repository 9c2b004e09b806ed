//! A batch, worked on for a while: looked through, called, finished. What comes
//! next is told by the database alone, so it can be cut off anywhere.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use tokio_util::sync::CancellationToken;

use super::line::{self, Fault};
use super::lines::{Lines, NoLine, part};
use super::types::{Batch, BatchId, OpenLine, Place, Status, endpoint};
use super::work::{Work, Worked};
use super::{Inner, sql};
use crate::clock::Timestamp;
use crate::db;
use crate::models::Endpoint;
use crate::models::files::WriteError;

/// Lines that a batch may have.
const MOST_LINES: u64 = 50_000;
/// Faults that are told of one input.
const MOST_FAULTS: usize = 100;

/// A batch that is being worked on.
pub(super) struct Running {
    /// Whose it is: row number.
    pub tenant: i64,
    /// Nothing more is wanted, and what is being called is given up.
    pub stop: CancellationToken,
    /// Nothing new is begun; what is being called may end.
    pub rest: AtomicBool,
}

/// Why a batch cannot be worked on now.
#[derive(Debug, thiserror::Error)]
pub(super) enum SliceError {
    /// The service stops; it goes on at the next start.
    #[error("the service was stopped")]
    Stopped,
    /// What was right when it was looked through is not any more: a fault of ours.
    #[error("the input has changed: {0}")]
    Input(String),
    /// New work is refused so that running work can end.
    #[error("the disk is nearly full")]
    NoSpace,
    /// The database.
    #[error(transparent)]
    Database(#[from] db::Error),
    /// What it gives cannot be written.
    #[error(transparent)]
    Output(#[from] WriteError),
}

/// A batch among those that are being worked on.
struct Registered<'a> {
    inner: &'a Inner,
    no: i64,
    running: Arc<Running>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut all = self.inner.running();
        if all.get(&self.no).is_some_and(|known| Arc::ptr_eq(known, &self.running)) {
            all.remove(&self.no);
        }
    }
}

impl Inner {
    /// Works on a batch until it has ended or it is time for others.
    pub(super) async fn work_on(&self, id: BatchId, stop: &CancellationToken) -> Result<Status, SliceError> {
        let Some(batch) = self.load(id).await? else { return Ok(Status::Cancelled) };
        let running = self.register(&batch, stop);
        // Also when this is given up in the middle, or panics.
        let registered = Registered { inner: self, no: id.no(), running: running.clone() };
        let outcome = self.slice(id, &running).await;
        drop(registered);
        if stop.is_cancelled() {
            return Err(SliceError::Stopped);
        }
        match outcome {
            Ok(Some(due)) => self.set_due(id, due).await?,
            Ok(None) => {}
            Err(error) => {
                let later = self.clock.now().plus(self.pace.after_fault);
                self.set_due(id, later).await?;
                return Err(error);
            }
        }
        self.look.notify_one();
        Ok(self.load(id).await?.map_or(Status::Cancelled, |batch| batch.status))
    }

    async fn load(&self, id: BatchId) -> Result<Option<Batch>, db::Error> {
        self.db.read(move |tx| sql::of_no(tx, id.no())).await
    }

    async fn set_due(&self, id: BatchId, due: Timestamp) -> Result<(), db::Error> {
        self.db.write(move |tx| sql::set_due(tx, id.no(), due)).await
    }

    fn register(&self, batch: &Batch, stop: &CancellationToken) -> std::sync::Arc<Running> {
        let rest = AtomicBool::new(false);
        let running = std::sync::Arc::new(Running { tenant: batch.tenant, stop: stop.child_token(), rest });
        self.running().insert(batch.id.no(), running.clone());
        running
    }

    /// From one status to the next, as far as it goes. When it is to be worked on
    /// next; none when it has ended.
    async fn slice(&self, id: BatchId, running: &Running) -> Result<Option<Timestamp>, SliceError> {
        // It was registered after it had been read, so a wish for its end is seen
        // either here or by its token.
        while let Some(batch) = self.load(id).await? {
            match batch.status {
                Status::Validating => match self.validate(&batch, running).await? {
                    Some(checked) => self.checked(&batch, checked).await?,
                    None => return self.stopped(id).await,
                },
                Status::InProgress if batch.ending.is_none() => {
                    self.settle(&batch, "interrupted", INTERRUPTED).await?;
                    let (_, endpoint) = known(&batch)?;
                    let worked = Work::new(self, &batch, endpoint, running).await?.go().await?;
                    match worked {
                        Worked::All => self.finalize(&batch, Status::Completed).await?,
                        Worked::Expired => self.finalize(&batch, Status::Expired).await?,
                        Worked::More(due) if !running.stop.is_cancelled() => return Ok(Some(due)),
                        Worked::More(_) => return self.stopped(id).await,
                    }
                }
                Status::Cancelling if batch.ending.is_none() => self.finalize(&batch, Status::Cancelled).await?,
                Status::InProgress | Status::Cancelling | Status::Finalizing => self.finish(&batch).await?,
                Status::Failed | Status::Completed | Status::Expired | Status::Cancelled => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Its token was set: because somebody wants its end, or because the service
    /// stops.
    async fn stopped(&self, id: BatchId) -> Result<Option<Timestamp>, SliceError> {
        let status = self.load(id).await?.map(|batch| batch.status);
        if status == Some(Status::Cancelling) {
            // The token has done what it was for.
            return Box::pin(self.slice(id, &Running::quiet())).await;
        }
        Ok(Some(self.clock.now()))
    }

    /// Ends what was being called when nobody was left to hear of it.
    pub(super) async fn settle(&self, batch: &Batch, code: &str, message: &str) -> Result<(), SliceError> {
        let no = batch.id.no();
        let open = self.db.read(move |tx| sql::open_lines(tx, no, "calling")).await?;
        for line in open {
            self.end_unanswered(batch, line, code, message).await?;
        }
        Ok(())
    }

    /// Ends a line that has no answer and will have none.
    pub(super) async fn end_unanswered(
        &self,
        batch: &Batch,
        open: OpenLine,
        code: &str,
        message: &str,
    ) -> Result<(), SliceError> {
        let text = part(&self.files, batch.input.no(), open.place.start, open.length).await?;
        let custom_id = line::read(&text, &batch.endpoint).map(|line| line.custom_id).unwrap_or_default();
        let end = line::failed(&custom_id, code, message);
        let (no, line) = (batch.id.no(), open.place.line);
        Ok(self.db.write(move |tx| sql::end_line(tx, no, line, &end)).await?)
    }

    async fn finalize(&self, batch: &Batch, ending: Status) -> Result<(), SliceError> {
        let (no, now) = (batch.id.no(), self.clock.now());
        Ok(self.db.write(move |tx| sql::finalize(tx, no, ending, now)).await?)
    }

    /// Looks through the input: lines, or what is wrong; `None` when it was
    /// stopped.
    async fn validate(&self, batch: &Batch, running: &Running) -> Result<Option<Result<u64, Vec<Fault>>>, SliceError> {
        let mut lines = Lines::from(self.files.clone(), batch.input.no(), Place::BEGIN);
        let (mut seen, mut faults, mut total) = (HashSet::new(), Vec::new(), 0_u64);
        while faults.len() < MOST_FAULTS {
            if running.stop.is_cancelled() || running.rest.load(Ordering::Acquire) {
                return Ok(None);
            }
            let raw = match lines.next().await {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(NoLine::Database(error)) => return Err(error.into()),
                Err(NoLine::TooLong(line)) => {
                    faults.push(Fault::of_file("line_too_long", NoLine::TooLong(line).to_string()).at(line));
                    break;
                }
            };
            total += 1;
            if total > MOST_LINES {
                faults.push(Fault::of_file("too_many_lines", format!("a batch may have {MOST_LINES} lines")));
                break;
            }
            let line = raw.place.line;
            match line::read(&raw.text, &batch.endpoint) {
                Ok(read) if !seen.insert(mark(&read.custom_id)) => faults.push(Fault::twice(&read.custom_id).at(line)),
                Ok(_) => {}
                Err(fault) => faults.push(fault.at(line)),
            }
            // Reading takes no time that anybody could see; parsing does.
            tokio::task::yield_now().await;
        }
        if total == 0 && faults.is_empty() {
            faults.push(Fault::of_file("empty_file", "the file has no lines"));
        }
        Ok(Some(if faults.is_empty() { Ok(total) } else { Err(faults) }))
    }

    async fn checked(&self, batch: &Batch, checked: Result<u64, Vec<Fault>>) -> Result<(), SliceError> {
        let (no, now) = (batch.id.no(), self.clock.now());
        match checked {
            Ok(total) => self.db.write(move |tx| sql::validated(tx, no, total, now)).await?,
            Err(faults) => {
                let errors = serde_json::to_string(&faults).map_err(|error| SliceError::Input(error.to_string()))?;
                self.db.write(move |tx| sql::invalid(tx, no, &errors, now)).await?;
            }
        }
        Ok(())
    }
}

/// What is told of a line that was being called when the service stopped.
const INTERRUPTED: &str = "the service stopped while this request was under way; it may have been paid for and is not \
                           made again";

impl Running {
    /// Of a batch that nobody can stop any more.
    fn quiet() -> Self {
        Self { tenant: 0, stop: CancellationToken::new(), rest: AtomicBool::new(false) }
    }
}

fn known(batch: &Batch) -> Result<(&'static str, Endpoint), SliceError> {
    endpoint(&batch.endpoint).ok_or_else(|| SliceError::Input(format!("{} is no endpoint", batch.endpoint)))
}

/// Stands for an id while they are compared, so that long ones need no memory.
fn mark(id: &str) -> [u8; 16] {
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest(&SHA256, id.as_bytes()).as_ref()[..16]);
    mark
}
