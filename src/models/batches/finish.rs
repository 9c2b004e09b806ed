//! The end of a batch: what its lines have given, as files.

use std::time::Duration;

use super::line::failed;
use super::lines::{Lines, NoLine};
use super::run::SliceError;
use super::types::{Batch, Status};
use super::{Inner, line, sql};
use crate::db::Tx;
use crate::models::files::{BATCH_OUTPUT, Bound, FileWriter, KEEP_OUTPUT, NewFile, Written};

/// Lines that one read takes. They can be long.
const SOME: usize = 16;

/// A file that is begun with its first line.
struct Output<'a> {
    inner: &'a Inner,
    batch: &'a Batch,
    suffix: &'static str,
    writer: Option<FileWriter>,
}

impl Output<'_> {
    async fn line(&mut self, text: &str) -> Result<(), SliceError> {
        if self.writer.is_none() {
            let keep = self.batch.keep_output.map_or(KEEP_OUTPUT, Duration::from_secs);
            let new = NewFile {
                tenant: self.batch.tenant,
                name: format!("{}_{}.jsonl", self.batch.id, self.suffix),
                purpose: BATCH_OUTPUT,
                keep: Some(keep),
            };
            self.writer = Some(self.inner.files.begin(new, Bound::Own).await?);
        }
        if let Some(writer) = &mut self.writer {
            writer.write(text.as_bytes()).await?;
            writer.write(b"\n").await?;
        }
        Ok(())
    }

    /// All lines that have ended so.
    async fn results(&mut self, succeeded: bool) -> Result<(), SliceError> {
        let (no, mut after) = (self.batch.id.no(), 0);
        loop {
            let some = self.inner.db.read(move |tx| sql::results(tx, no, succeeded, after, SOME)).await?;
            let Some((last, _)) = some.last() else { return Ok(()) };
            after = *last;
            for (_, result) in some {
                self.line(&result).await?;
            }
        }
    }

    async fn finish(self) -> Result<Option<Written>, SliceError> {
        match self.writer {
            Some(writer) => Ok(Some(writer.finish().await?)),
            None => Ok(None),
        }
    }
}

impl Inner {
    /// Writes the files and ends the batch, in one transaction with their
    /// appearance. Cut off, it is done again from the beginning.
    pub(super) async fn finish(&self, batch: &Batch) -> Result<(), SliceError> {
        let ending = batch.ending.unwrap_or(Status::Completed);
        let (code, message) = match ending {
            Status::Cancelled => ("batch_cancelled", CANCELLED),
            _ => ("batch_expired", EXPIRED),
        };
        self.settle(batch, if ending == Status::Cancelled { code } else { "interrupted" }, UNDER_WAY).await?;
        let no = batch.id.no();
        for open in self.db.read(move |tx| sql::open_lines(tx, no, "waiting")).await? {
            self.end_unanswered(batch, open, code, message).await?;
        }
        let output = |suffix| Output { inner: self, batch, suffix, writer: None };
        let (mut good, mut bad) = (output("output"), output("error"));
        good.results(true).await?;
        bad.results(false).await?;
        let never = if ending == Status::Expired { self.never_called(batch, &mut bad).await? } else { 0 };
        let files = [good.finish().await?, bad.finish().await?];
        let ids = files.each_ref().map(|file| file.as_ref().map(Written::id));
        let complete: Vec<_> = files.iter().flatten().map(Written::completion).collect();
        let now = self.clock.now();
        let work = move |tx: &Tx<'_>| {
            complete.iter().try_for_each(|complete| complete(tx).map(drop))?;
            sql::end(tx, no, ids, never, now)
        };
        self.db.write(work).await?;
        files.into_iter().flatten().for_each(Written::keep);
        tracing::info!(batch = %batch.id, status = ending.name(), "a batch has ended");
        Ok(())
    }

    /// Tells of the lines that were never begun; how many there are.
    async fn never_called(&self, batch: &Batch, bad: &mut Output<'_>) -> Result<u64, SliceError> {
        let mut lines = Lines::from(self.files.clone(), batch.input.no(), batch.next);
        let mut count = 0;
        loop {
            let raw = match lines.next().await {
                Ok(Some(raw)) => raw,
                Ok(None) => return Ok(count),
                Err(NoLine::Database(error)) => return Err(error.into()),
                Err(error @ NoLine::TooLong(_)) => return Err(SliceError::Input(error.to_string())),
            };
            let custom_id = line::read(&raw.text, &batch.endpoint).map(|line| line.custom_id).unwrap_or_default();
            bad.line(&failed(&custom_id, "batch_expired", EXPIRED).result).await?;
            count += 1;
        }
    }
}

const CANCELLED: &str = "the batch was cancelled before this request was answered";
const EXPIRED: &str = "this request could not be answered before the batch's completion window ended";
const UNDER_WAY: &str = "the batch ended while this request was under way; it may have been paid for";
