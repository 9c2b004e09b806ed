//! Stays with a job until its end, also while the service starts again.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use sse_stream::SseStream;
use uuid::Uuid;

use super::super::control::{Service, is_empty, read};
use super::super::failure::Failure;
use super::super::output::{field, plain};
use super::super::{exit, fail};

/// How long a service may be away before the job is given up on here.
const AWAY: Duration = Duration::from_secs(60);
/// How long to wait before asking again, unless the service says otherwise.
const AGAIN: Duration = Duration::from_millis(500);

/// Where events are shown.
#[derive(Clone, Copy)]
pub(super) enum Show {
    /// On standard output, for people.
    Lines,
    /// On standard output, as JSON, one a line.
    Json,
    /// On standard error, so that somebody sees that something happens.
    Progress,
    /// Nowhere.
    Nothing,
}

impl Show {
    /// When the events are what was asked for.
    pub(super) fn events(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }

    /// When the end is what was asked for.
    pub(super) fn progress(json: bool) -> Self {
        if json || !std::io::stderr().is_terminal() { Self::Nothing } else { Self::Progress }
    }

    fn event(self, data: &str, event: &Value) {
        match self {
            Self::Lines => say!("{}", line(event)),
            Self::Json => say!("{data}"),
            Self::Progress => eprintln!("{}", line(event)),
            Self::Nothing => {}
        }
    }
}

/// Success for a job that succeeded; the exit code of any other end.
pub(super) fn judge(status: &str) -> Result<(), Failure> {
    if status == "succeeded" { Ok(()) } else { Err(Failure::Told(exit::FAILED)) }
}

/// Follows a job; the status that it ended with.
pub(super) async fn to_its_end(service: &Service, job: Uuid, show: Show) -> Result<String, Failure> {
    let mut follower = Follower { service, job, show, last: 0, again: AGAIN };
    tokio::select! {
        end = follower.run() => end,
        signal = tokio::signal::ctrl_c() => {
            signal.map_err(Failure::other)?;
            let what = "no longer watched, but the job goes on: agentd job follow shows it again, agentd job cancel ends it";
            let _ = fail(exit::INTERRUPTED, what);
            Err(Failure::Told(exit::INTERRUPTED))
        }
    }
}

struct Follower<'a> {
    service: &'a Service,
    job: Uuid,
    show: Show,
    /// Number of the last event seen.
    last: i64,
    again: Duration,
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<String, Failure> {
        let mut heard = Instant::now();
        loop {
            match self.listen(&mut heard).await {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                // A service that starts again is away for a moment.
                Err(failure) if self.last > 0 && failure.passes() && heard.elapsed() < AWAY => {}
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(self.again).await;
        }
    }

    /// Listens until the stream ends; the job's status if that was its end.
    async fn listen(&mut self, heard: &mut Instant) -> Result<Option<String>, Failure> {
        let request = self.service.request(Method::GET, &format!("/v1/jobs/{}/events", self.job));
        let request = request.header("Accept", "text/event-stream").query(&[("starting_after", self.last)]);
        let answer = self.service.open(request).await?;
        if is_empty(&answer) {
            let job: Value = read(&self.service.get(&format!("/v1/jobs/{}", self.job)).await?)?;
            return Ok(Some(field(&job, "status")));
        }
        let mut frames = SseStream::from_bytes_stream(answer.bytes_stream());
        // A stream that breaks off is taken up again like one that ends.
        while let Some(Ok(frame)) = frames.next().await {
            *heard = Instant::now();
            if let Some(retry) = frame.retry {
                self.again = Duration::from_millis(retry);
            }
            let (Some(data), Some(id)) = (frame.data, frame.id.and_then(|id| id.parse().ok())) else { continue };
            let event: Value = read(&data)?;
            self.last = id;
            self.show.event(&data, &event);
            if let Some(status) = ended_as(&event) {
                return Ok(Some(status.to_owned()));
            }
        }
        // Heartbeats do not come through as frames, so a long silence ends here.
        *heard = Instant::now();
        Ok(None)
    }
}

/// What the job has become with its last event.
fn ended_as(event: &Value) -> Option<&str> {
    let status = event["type"].as_str()?.strip_prefix("job.")?;
    ["succeeded", "failed", "cancelled", "dead"].contains(&status).then_some(status)
}

fn line(event: &Value) -> String {
    let at = event["at"].as_str().unwrap_or_default();
    // The day is today, or in the card of the job.
    let clock = at.get(11..23).unwrap_or(at);
    let data = &event["data"];
    let data = if data.as_object().is_some_and(serde_json::Map::is_empty) { String::new() } else { data.to_string() };
    plain(format!("{clock}  {:<14} {data}", field(event, "type")).trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({ "type": "job.started", "at": "2026-01-02T03:04:05.678901Z", "data": { "attempt": 1 } });
        assert_eq!(line(&event), "03:04:05.678  job.started    {\"attempt\":1}");
        let event = json!({ "type": "job.queued", "at": "2026-01-02T03:04:05.678901Z", "data": {} });
        assert_eq!(line(&event), "03:04:05.678  job.queued");
    }

    #[test]
    fn only_the_last_event_ends_a_job() {
        assert_eq!(ended_as(&json!({ "type": "job.dead" })), Some("dead"));
        assert_eq!(ended_as(&json!({ "type": "job.started" })), None);
        assert_eq!(ended_as(&json!({ "type": "step.failed" })), None);
    }
}
