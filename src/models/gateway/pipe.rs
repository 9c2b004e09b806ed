//! Bytes on their way from the task that reads a provider to the one that answers
//! a client. What has come together since the client last took some is taken as
//! one, so that many small events do not become as many small writes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

/// Bytes that wait for the client before no more are read for it.
const ROOM: usize = 16 << 10;

#[derive(Default)]
struct State {
    ready: BytesMut,
    /// Whether nothing more comes.
    over: bool,
    /// Whether the client is gone.
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end that is written to. Dropping it ends the stream.
pub(super) struct Inlet(Shared);

/// The client's end.
pub(super) struct Outlet(Shared);

/// Whether more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// There is room.
    Open,
    /// The client has enough to read.
    Full,
    /// The client is gone.
    Gone,
}

/// Both ends of a new pipe.
pub(super) fn pipe() -> (Inlet, Outlet) {
    let shared = Shared::default();
    (Inlet(shared.clone()), Outlet(shared))
}

impl Inlet {
    /// Writes, whether or not there is room.
    pub(super) fn push(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = lock(&self.0);
        state.ready.extend_from_slice(bytes);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Whether more can be written; wakes the task when that changes.
    pub(super) fn flow(&self, context: &Context<'_>) -> Flow {
        let mut state = lock(&self.0);
        if state.gone {
            return Flow::Gone;
        }
        register(&mut state.writer, context);
        if state.ready.len() < ROOM { Flow::Open } else { Flow::Full }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        let mut state = lock(&self.0);
        state.over = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.close();
    }
}

impl Stream for Outlet {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = lock(&self.0);
        if state.ready.is_empty() {
            if state.over {
                return Poll::Ready(None);
            }
            register(&mut state.reader, context);
            return Poll::Pending;
        }
        let writer = if state.ready.len() >= ROOM { state.writer.take() } else { None };
        let taken = state.ready.split().freeze();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(taken))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.gone = true;
        state.ready = BytesMut::new();
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}

fn register(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    async fn flow(inlet: &Inlet) -> Flow {
        std::future::poll_fn(|context| Poll::Ready(inlet.flow(context))).await
    }

    #[tokio::test]
    async fn what_has_come_together_is_taken_together() {
        let (inlet, mut outlet) = pipe();
        inlet.push(b"a");
        inlet.push(b"b");
        assert_eq!(outlet.next().await.as_deref(), Some(&b"ab"[..]));
        let taking = tokio::spawn(async move { (outlet.next().await, outlet.next().await) });
        tokio::task::yield_now().await;
        inlet.push(b"c");
        drop(inlet);
        assert_eq!(taking.await.expect("taken"), (Some(Bytes::from_static(b"c")), None));
    }

    #[tokio::test]
    async fn a_slow_client_stops_the_flow_and_one_that_goes_ends_it() {
        let (inlet, mut outlet) = pipe();
        assert_eq!(flow(&inlet).await, Flow::Open);
        inlet.push(&[b'x'; ROOM]);
        assert_eq!(flow(&inlet).await, Flow::Full);
        let waiting = tokio::spawn(async move {
            let open = |context: &mut Context<'_>| match inlet.flow(context) {
                Flow::Full => Poll::Pending,
                flow => Poll::Ready(flow),
            };
            (std::future::poll_fn(open).await, inlet)
        });
        tokio::task::yield_now().await;
        assert_eq!(outlet.next().await.map(|bytes| bytes.len()), Some(ROOM));
        let (open, inlet) = waiting.await.expect("woken");
        assert_eq!(open, Flow::Open);
        drop(outlet);
        assert_eq!(flow(&inlet).await, Flow::Gone);
    }
}
