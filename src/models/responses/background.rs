//! Responses that are made in the background: begun, cancelled, deleted.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Inner;
use super::create::Asked;
use super::id::ResponseId;
use super::object::{Ending, Event, Head, Status};
use super::sql::{self, Background, New, Stored};
use crate::db;
use crate::http::Problem;

/// What happens to a response before a job takes it up.
pub(super) const BEGINNING: [&str; 2] = ["response.created", "response.queued"];

impl Inner {
    /// Puts a response on disk and has a job make it.
    pub(super) async fn begin(self: &Arc<Self>, mut asked: Asked) -> Result<(ResponseId, Value), Problem> {
        self.resolve(&mut asked).await?;
        let input = serde_json::to_string(&asked.create.input).map_err(Problem::internal)?;
        self.admit(&input)?;
        // What cannot be asked is refused now and not by the job.
        self.plan(&asked, true).await?;
        let Asked { create, payer, test } = asked;
        let jobs = self.jobs()?;
        let (id, job) = (ResponseId(self.ids.next()), jobs.new_id());
        let object = Head::new(id, &create, create.model(), self.clock.now()).open(Status::Queued);
        let events = (0..).zip(BEGINNING).map(|(seq, kind)| Event::new(seq, kind, json!({ "response": object })));
        let background = Background {
            job,
            key: payer.key.as_deref().map(str::to_owned),
            session: payer.session.as_deref().map(str::to_owned),
            test,
            request: serde_json::to_string(&create.fields).map_err(Problem::internal)?,
            events: events.collect(),
        };
        let new = New {
            id,
            tenant: payer.tenant,
            status: Status::Queued,
            previous: create.previous,
            background: Some(background),
            input,
            object: object.to_string(),
        };
        self.store(new).await?;
        let submitted = jobs.submit_for(payer.tenant, job, super::job::NAME, &super::job::input(id)).await;
        if let Err(problem) = submitted {
            self.db.write(move |tx| sql::withdraw(tx, id.no())).await?;
            return Err(problem);
        }
        Ok((id, object))
    }

    /// Ends a response that is made in the background; the response.
    pub(super) async fn cancel(&self, tenant: i64, id: ResponseId) -> Result<Stored, Problem> {
        let stored = self.stored(tenant, id).await?;
        let Some(job) = stored.job else {
            let detail = "only a response that is made with \"background\": true can be cancelled";
            return Err(Problem::bad_request("not_background", detail));
        };
        if stored.status.is_final() {
            return Ok(stored);
        }
        self.end(tenant, id, &Ending::Cancelled).await?;
        self.jobs()?.stop(tenant, job).await?;
        self.stored(tenant, id).await
    }

    /// Deletes a response, and stops making it.
    pub(super) async fn delete(&self, tenant: i64, id: ResponseId) -> Result<(), Problem> {
        let deleted = self.db.write(move |tx: &db::Tx<'_>| sql::delete(tx, tenant, id)).await?;
        let deleted = deleted.ok_or_else(|| Problem::not_found("response"))?;
        self.followers.tell(id.no());
        if let Some(job) = deleted.job.filter(|_| !deleted.status.is_final()) {
            self.jobs()?.stop(tenant, job).await?;
        }
        Ok(())
    }
}
