//! A connection that is kept for further requests. Whoever uses it drives it, in
//! the same task: if it had one of its own, every request and every piece of an
//! answer would be handed from task to task.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::exchange::{HEAD_BYTES, HEAD_FIELDS};

/// How long a connection that nobody uses is kept. Servers close theirs after a
/// minute or more, and one that is used as it is closed loses a request.
const KEPT: Duration = Duration::from_secs(45);
/// How often those are looked for that are too old or that the server has closed.
const SWEEP: Duration = Duration::from_secs(15);
/// Connections of one runtime that are kept for later.
const KEPT_CONNECTIONS: usize = 256;

/// The bytes of a connection.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A body that tells when it is wanted: then there is a connection.
pub(super) struct Watched {
    body: Full<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Watched {
    /// The body, and what tells whether it was wanted.
    pub fn new(body: Bytes) -> (Self, Arc<AtomicBool>) {
        let sent = Arc::new(AtomicBool::new(false));
        (Self { body: Full::new(body), sent: sent.clone() }, sent)
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An open connection. Dropping it closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<Watched>,
    /// None once the connection is closed.
    driven: Option<Box<http1::Connection<TokioIo<Stream>, Watched>>>,
    /// When it was last used.
    used: Instant,
}

impl Connection {
    /// Speaks HTTP/1.1 over a stream.
    pub async fn new(stream: Stream) -> Result<Self, hyper::Error> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES).max_headers(HEAD_FIELDS);
        let (sender, driven) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driven: Some(Box::new(driven)), used: Instant::now() })
    }

    /// Reads and writes what can be read and written now. Its errors come out of
    /// the request and the body, too.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driven) = &mut self.driven
            && Pin::new(&mut **driven).poll(context).is_ready()
        {
            self.driven = None;
        }
    }

    /// Drives it for something that only this connection can make ready, and that
    /// need not wake anybody, because it is asked here again.
    fn drive_for<T>(
        &mut self,
        context: &mut Context<'_>,
        mut asked: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Without a budget of its own it never says "later" for another reason.
        let mut asked = move || {
            let asked = unconstrained(std::future::poll_fn(&mut asked));
            std::pin::pin!(asked).poll(&mut Context::from_waker(Waker::noop()))
        };
        if let ready @ Poll::Ready(_) = asked() {
            return ready;
        }
        self.drive(context);
        asked()
    }

    /// Whether a request can be sent. What the server has done meanwhile, such as
    /// closing it, shows when the connection is driven.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driven.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// With the request, if nothing of it was sent.
    pub async fn ask(
        &mut self,
        request: Request<Watched>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Watched>>> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|context| self.drive_for(context, |context| answer.as_mut().poll(context))).await
    }
}

/// The kept connections of one runtime to one origin.
#[derive(Default)]
pub(super) struct Home {
    idle: Mutex<Vec<Connection>>,
    sweeping: AtomicBool,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last of those that can be used.
    pub fn take(&self) -> Option<Connection> {
        loop {
            let mut found = self.lock().pop()?;
            if found.used.elapsed() < KEPT && found.is_usable() {
                return Some(found);
            }
        }
    }

    fn keep(self: &Arc<Self>, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.lock();
        if idle.len() < KEPT_CONNECTIONS {
            idle.push(connection);
        }
        drop(idle);
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is too old, or closed by the server; whether any are left.
    fn sweep(&self) -> bool {
        let mut idle = self.lock();
        idle.retain_mut(|connection| connection.used.elapsed() < KEPT && connection.is_usable());
        self.sweeping.store(!idle.is_empty(), Ordering::Relaxed);
        !idle.is_empty()
    }
}

async fn sweep(home: std::sync::Weak<Home>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !home.upgrade().is_some_and(|home| home.sweep()) {
            return;
        }
    }
}

/// The body of an answer, with the connection over which it comes. Dropping it
/// before its end closes the connection.
pub struct Exchange {
    incoming: Incoming,
    /// None once the body has ended.
    connection: Option<Connection>,
    home: Arc<Home>,
}

impl Exchange {
    pub(super) fn new(incoming: Incoming, connection: Connection, home: Arc<Home>) -> Self {
        Self { incoming, connection: Some(connection), home }
    }

    /// What comes next; at the end the connection is kept for the next request.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let incoming = &mut self.incoming;
        let frame = connection.drive_for(context, |context| Pin::new(&mut *incoming).poll_frame(context));
        if let Poll::Ready(None | Some(Err(_))) = frame
            && let Some(connection) = self.connection.take()
            && connection.driven.is_some()
            && matches!(frame, Poll::Ready(None))
        {
            self.home.keep(connection);
        }
        frame
    }
}
