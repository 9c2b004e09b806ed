//! Following a response that is made in the background: its events come from the
//! database, in order, without a gap or a repeat.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::Inner;
use super::followers::Following;
use super::id::ResponseId;
use super::object::Event;
use super::sql;
use crate::auth::KeyEntry;
use crate::http::sse;

/// Rows of events read at a time.
const PAGE: usize = 16;
/// What a client is told to wait before it comes back to a service that stops.
const COME_BACK_MS: u32 = 2_000;

struct Follow {
    inner: Arc<Inner>,
    tenant: i64,
    id: ResponseId,
    /// What opened the stream; the stream ends when it no longer counts.
    key: Arc<KeyEntry>,
    following: Following,
    /// The last event that was sent.
    last: i64,
    /// Whether the response may have ended, or gone, without an event.
    look: bool,
    ended: bool,
}

/// Frames of a response's events after number `after`, until the last one.
pub(super) fn follow(
    inner: Arc<Inner>,
    tenant: i64,
    id: ResponseId,
    key: Arc<KeyEntry>,
    after: i64,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    // Registered before the database is read, so nothing falls between.
    let following = inner.followers.follow(id.no());
    let follow = Follow { inner, tenant, id, key, following, last: after, look: true, ended: false };
    futures_util::stream::unfold(follow, |mut follow| async move { follow.next().await.map(|it| (Ok(it), follow)) })
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        // Asked before every frame, so at least at every heartbeat.
        while !self.ended && self.key.counts(self.inner.clock.now()) {
            let (no, after) = (self.id.no(), self.last);
            match self.inner.db.read(move |tx| sql::events(tx, no, after, PAGE)).await {
                Ok(events) if !events.is_empty() => return Some(self.send(events)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a stream ended early");
                    return Some(self.end_early());
                }
            }
            if std::mem::take(&mut self.look) && !self.is_open().await {
                // What it ended with may have been written since.
                return match self.inner.db.read(move |tx| sql::events(tx, no, after, PAGE)).await {
                    Ok(events) if !events.is_empty() => Some(self.send(events)),
                    _ => None,
                };
            }
            let Ok(jobs) = self.inner.jobs() else { return Some(self.end_early()) };
            tokio::select! {
                biased;
                () = self.following.news() => self.look = true,
                () = jobs.closed() => return Some(self.end_early()),
                () = tokio::time::sleep(sse::HEARTBEAT_EVERY) => {
                    self.look = true;
                    return Some(Bytes::from_static(sse::HEARTBEAT));
                }
            }
        }
        None
    }

    /// Whether more can come. This also ends what nobody makes any more.
    async fn is_open(&self) -> bool {
        let stored = self.inner.stored(self.tenant, self.id).await;
        stored.is_ok_and(|stored| !stored.status.is_final())
    }

    fn send(&mut self, events: Vec<Event>) -> Bytes {
        self.look = false;
        let mut frames = BytesMut::new();
        for event in events {
            self.last = event.seq;
            self.ended = is_last(&event.kind);
            frames.extend_from_slice(&event.frame());
        }
        frames.freeze()
    }

    fn end_early(&mut self) -> Bytes {
        self.ended = true;
        sse::retry_hint(COME_BACK_MS)
    }
}

fn is_last(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.failed")
}
