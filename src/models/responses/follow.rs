//! Following a response that is made in the background: its events come from the
//! database, in order, without a gap or a repeat.

use std::collections::VecDeque;
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
    let follow = Follow { inner, tenant, id, key, following, last: after, ended: false };
    futures_util::stream::unfold(follow, |mut follow| async move { follow.next().await.map(|it| (Ok(it), follow)) })
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        // Asked before every frame, so at least at every heartbeat.
        while !self.ended && self.key.counts(self.inner.clock.now()) {
            let (no, after) = (self.id.no(), self.last);
            match self.inner.db.read(move |tx| sql::events(tx, no, after, PAGE)).await {
                Ok(events) if !events.is_empty() => return Some(self.send(events.into())),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a stream ended early");
                    return Some(self.end_early());
                }
            }
            // Also finds the end of one that has none, and of one that is gone.
            match self.inner.stored(self.tenant, self.id).await {
                Ok(stored) if !stored.status.is_final() => {}
                Ok(_) => match self.inner.db.read(move |tx| sql::events(tx, no, after, PAGE)).await {
                    Ok(events) if !events.is_empty() => return Some(self.send(events.into())),
                    _ => return None,
                },
                Err(_) => return None,
            }
            let Ok(jobs) = self.inner.jobs() else { return Some(self.end_early()) };
            tokio::select! {
                biased;
                () = self.following.news() => {}
                () = jobs.closed() => return Some(self.end_early()),
                () = tokio::time::sleep(sse::HEARTBEAT_EVERY) => return Some(Bytes::from_static(sse::HEARTBEAT)),
            }
        }
        None
    }

    fn send(&mut self, events: VecDeque<Event>) -> Bytes {
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
