//! A stream that ends when nothing has moved on it for too long.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Nothing has moved for so long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nothing has moved for {0:?}")]
pub(super) struct Stalled(pub Duration);

/// Reads and writes what the stream in it does; an error in place of a wait that
/// is longer than the limit, where there is one.
pub(super) struct Moving<S> {
    stream: S,
    watch: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl<S> Moving<S> {
    pub(super) fn new(stream: S, limit: Option<Duration>) -> Self {
        let watch = limit.map(|limit| (limit, Box::pin(tokio::time::sleep(limit))));
        Self { stream, watch }
    }

    /// What came of an attempt; while it waits, time runs.
    fn watched<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some((limit, sleep)) = &mut self.watch else { return outcome };
        if outcome.is_ready() {
            sleep.as_mut().reset(Instant::now() + *limit);
            return outcome;
        }
        sleep.as_mut().poll(context).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, Stalled(*limit))))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Moving<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, into);
        self.watched(context, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Moving<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watched(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush that has nothing to do is no movement.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_stands_still_ends_in_both_directions() {
        let (near, far) = tokio::io::duplex(8);
        let mut near = Moving::new(near, Some(Duration::from_millis(20)));
        let stalled = near.read_u8().await.expect_err("nothing comes");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        let stalled = near.write_all(b"more than the pipe takes").await.expect_err("nobody reads");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        drop(far);
    }

    #[tokio::test]
    async fn what_moves_arrives() {
        let (near, mut far) = tokio::io::duplex(8);
        for limit in [None, Some(Duration::from_secs(60))] {
            let (mut near, sent) = (Moving::new(tokio::io::empty(), limit), b"a text that is longer than the pipe");
            assert_eq!(near.read(&mut [0]).await.expect("an end"), 0);
            near.write_all(sent).await.expect("written");
        }
        let mut near = Moving::new(near, Some(Duration::from_secs(60)));
        let (written, mut read) = (b"a text that is longer than the pipe", [0; 35]);
        let (sent, came) = tokio::join!(far.write_all(written), near.read_exact(&mut read));
        sent.and(came.map(|_| ())).expect("it arrives");
        assert_eq!(&read, written);
    }
}
