//! Keeping responses, finding what they go on from, and forgetting them.

use std::time::Instant;

use serde_json::Value;

use super::Inner;
use super::id::ResponseId;
use super::object::{Ending, Finished, Status, end_as_it_stands};
use super::request::no_previous;
use super::sql::{self, Chain, New, Step, Stored};
use crate::clock::Timestamp;
use crate::db;
use crate::http::Problem;
use crate::jobs;

/// Bytes of input that one response may keep.
pub(super) const LARGEST_INPUT: usize = 8 << 20;
/// Turns that are put together, and their bytes.
const MOST_TURNS: usize = 500;
const MOST_CONTEXT: usize = 16 << 20;
/// How often it is looked for responses whose time is over.
const FORGET_EVERY: std::time::Duration = std::time::Duration::from_secs(300);
/// Between two pieces the writer is left alone for so many times as long as the
/// last one took.
const REST_FACTOR: u32 = 5;

impl Inner {
    /// The items of the turns up to a tenant's response, the oldest first.
    pub(super) async fn context(&self, tenant: i64, previous: Option<ResponseId>) -> Result<Vec<Value>, Problem> {
        let Some(id) = previous else { return Ok(Vec::new()) };
        let chain = self.db.read(move |tx| sql::chain(tx, tenant, id, MOST_TURNS, MOST_CONTEXT)).await?;
        let wrong = |detail: String| Err(Problem::invalid("/previous_response_id", detail));
        let turns = match chain {
            Chain::Turns(turns) => turns,
            Chain::Missing => return Err(no_previous(&id.to_string())),
            Chain::Broken => return wrong(format!("{id} goes on from a response that has been deleted")),
            Chain::Unusable(status) => {
                return wrong(format!("{id}, or one that it goes on from, is {}", status.name()));
            }
            Chain::TooLong => {
                let most = MOST_CONTEXT >> 20;
                return wrong(format!("the conversation has more than {MOST_TURNS} turns or {most} MiB"));
            }
        };
        let mut items = Vec::new();
        for (input, object) in turns {
            let input: Vec<Value> = serde_json::from_str(&input).map_err(Problem::internal)?;
            let mut object: Value = serde_json::from_str(&object).map_err(Problem::internal)?;
            items.extend(input);
            if let Value::Array(output) = object["output"].take() {
                items.extend(output);
            }
        }
        Ok(items)
    }

    /// Refuses what could not be kept.
    pub(super) fn admit(&self, input: &str) -> Result<(), Problem> {
        if self.db.nearly_full() {
            let detail = "the disk is nearly full; responses are not stored";
            return Err(Problem::unavailable("disk_nearly_full", detail, 30).with_hint("send \"store\": false"));
        }
        if input.len() > LARGEST_INPUT {
            let detail = format!("an input of more than {} MiB is not stored", LARGEST_INPUT >> 20);
            let problem = Problem::new(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail);
            return Err(problem.with_hint("send \"store\": false"));
        }
        Ok(())
    }

    /// Keeps a response that has ended.
    pub(super) async fn store(&self, new: New) -> Result<(), db::Error> {
        let now = self.clock.now();
        self.db.write(move |tx| sql::insert(tx, &new, now)).await
    }

    /// A tenant's response as it is now. One whose job has come to an end without
    /// it has ended with the job.
    pub(super) async fn stored(&self, tenant: i64, id: ResponseId) -> Result<Stored, Problem> {
        let read = move |tx: &db::Tx<'_>| sql::get(tx, tenant, id);
        let missing = || Problem::not_found("response");
        let stored = self.db.read(read).await?.ok_or_else(missing)?;
        let Some(job) = stored.job.filter(|_| !stored.status.is_final()) else { return Ok(stored) };
        let ending = match self.jobs()?.standing(tenant, job).await? {
            Some(status) if !status.is_final() => return Ok(stored),
            Some(jobs::Status::Cancelled) => Ending::Cancelled,
            Some(_) | None => Ending::failed("server_error", "the job that was to make this response has failed"),
        };
        self.end(tenant, id, &ending).await?;
        self.db.read(read).await?.ok_or_else(missing)
    }

    /// Ends a response that is made in the background, unless it has ended.
    pub(super) async fn end(&self, tenant: i64, id: ResponseId, ending: &Ending) -> Result<(), Problem> {
        let (now, ending) = (self.clock.now(), ending.clone());
        let end = move |tx: &db::Tx<'_>| {
            let Some(work) = sql::work(tx, tenant, id)?.filter(|work| !work.status.is_final()) else { return Ok(()) };
            let object = serde_json::from_str(&work.object).unwrap_or_default();
            let (event, finished) = end_as_it_stands(id, object, &ending, work.last_event + 1);
            sql::step(tx, id.no(), &Step::of(vec![event], Some(&finished)), now).map(drop)
        };
        let followers = self.followers.clone();
        self.db.write_then(end, move |()| followers.tell(id.no())).await?;
        Ok(())
    }

    /// Forgets what is over, again and again.
    pub(super) async fn forget(&self) {
        let Some(keep) = self.keep else { return };
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        loop {
            let before = Timestamp::from_micros(self.clock.steady_now().micros().saturating_sub(keep));
            match self.forget_before(before).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "deleted stored responses whose time was over"),
                Err(error) => tracing::warn!(%error, "old responses could not be deleted"),
            }
            tokio::time::sleep(FORGET_EVERY).await;
        }
    }

    async fn forget_before(&self, before: Timestamp) -> Result<usize, db::Error> {
        let mut total = 0;
        // Most looks find nothing; those need not wait for the writer.
        while self.db.read(move |tx| sql::has_expired(tx, before)).await? {
            let work = move |tx: &db::Tx<'_>| {
                let began = Instant::now();
                Ok((sql::expire(tx, before)?, began.elapsed()))
            };
            let (deleted, took) = self.db.write(work).await?;
            total += deleted;
            tokio::time::sleep(took * REST_FACTOR).await;
        }
        Ok(total)
    }
}

/// A finished response that could not be kept says so.
pub(super) fn not_stored(finished: &mut Finished, error: &db::Error) {
    tracing::warn!(%error, "a response could not be stored");
    finished.object["store"] = false.into();
}

impl Finished {
    /// As it comes into the database.
    pub(super) fn row(&self, id: ResponseId, tenant: i64, previous: Option<ResponseId>, input: String) -> New {
        let status: Status = self.status;
        New { id, tenant, status, previous, background: None, input, object: self.object.to_string() }
    }
}
