//! The servers: one for callers, one for the command line, one that sends plain
//! HTTP on. Each has workers of its own, so that none is kept from its work
//! when another has as many connections as it takes.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Protocol};
use actix_service::{ServiceFactoryExt as _, map_config};
use actix_web::App as HttpApp;
use actix_web::dev::{AppConfig, Server, ServerHandle, ServiceFactory, fn_factory, fn_service};
use actix_web::http::header::HeaderValue;
use actix_web::middleware::from_fn;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::files::{Connections, Shares};
use super::handshake::Handshakes;
use super::not_http::{NotHttp, watched};
use super::{control, redirect};
use crate::app::App;
use crate::config::Config;
use crate::http::{self, Hsts};
use crate::tls::{Certificates, HttpChallenges, Source};

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a connection that is closed is still read from: a client that is
/// sending a body that was refused would otherwise never see the answer.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How long answers in flight may take once jobs have been drained.
const GRACE_SECONDS: u64 = 5;
/// How long it may take until a connection that was accepted is at its worker.
const HAND_ON: Duration = Duration::from_millis(100);

/// Servers that run.
#[derive(Default)]
pub(super) struct Servers {
    handles: Vec<ServerHandle>,
    ends: FuturesUnordered<JoinHandle<io::Result<()>>>,
}

impl Servers {
    pub(super) fn run(&mut self, server: Server) {
        self.handles.push(server.handle());
        self.ends.push(actix_web::rt::spawn(server));
    }

    /// Waits for the end of one, which should not come: without it the process
    /// would live on deaf.
    pub(super) async fn ended(&mut self) -> io::Error {
        match self.ends.next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => io::Error::other(error),
            Some(Ok(Ok(()))) | None => io::Error::other("the HTTP server ended by itself"),
        }
    }

    /// Leaves those who connect from now on to the next process, which gets the
    /// same sockets from systemd. What has been accepted must have come to a
    /// worker, which forgets its queue when it is told to stop, and tells nobody
    /// how long that is.
    pub(super) async fn leave_the_rest(&self) {
        join_all(self.handles.iter().map(ServerHandle::pause)).await;
        tokio::time::sleep(HAND_ON).await;
    }

    /// Answers what has been asked, and ends.
    pub(super) async fn stop(&self) {
        join_all(self.handles.iter().map(|handle| handle.stop(true))).await;
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.ends.iter().for_each(JoinHandle::abort);
    }
}

/// For callers. Without `tls` it is plain HTTP.
pub(super) fn callers(
    config: &Config,
    app: &App,
    on: TcpListener,
    tls: Option<Handshakes>,
    (shares, connections): (Shares, &Connections),
    not_http: &NotHttp,
) -> io::Result<Server> {
    let builder = Server::build().workers(shares.workers).max_concurrent_connections(shares.callers);
    let builder = builder.disable_signals().shutdown_timeout(GRACE_SECONDS);
    let stopping = builder.graceful_shutdown_signal();
    let stopping = move || {
        let stopping = stopping.clone();
        async move { stopping.notified().await }
    };
    let (app, head_time) = (app.clone(), config.server.head_time);
    let (connections, not_http) = (connections.clone(), not_http.clone());
    let builder = match tls {
        None => builder.listen("http", on, move || {
            let connections = connections.clone();
            let accept = fn_service(|stream: TcpStream| async {
                let peer = stream.peer_addr().ok();
                // Events are small and wanted at once.
                let _ = stream.set_nodelay(true);
                Ok((stream, Protocol::Http1, peer))
            });
            let service = service(app.clone(), head_time, stopping.clone(), move |_, data| {
                data.insert(connections.one_more());
            });
            accept.and_then(watched(service, |(_, _, peer)| *peer, not_http.clone()))
        }),
        Some(handshakes) => {
            let hsts = config.tls.hsts.and_then(hsts);
            builder.listen("https", on, move || {
                let (handshakes, hsts) = (handshakes.clone(), hsts.clone());
                let certificates = app.certificates.clone();
                let (connections, shaking) = (connections.clone(), connections.clone());
                let accept = fn_factory(move || {
                    let (acceptor, shaking) = (handshakes.acceptor(), shaking.clone());
                    async move {
                        Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                            let (accepting, one) = (acceptor.clone().accept(stream), shaking.one_more());
                            async move {
                                let accepted = accepting.await.ok_or(DispatchError::DisconnectTimeout);
                                drop(one);
                                accepted
                            }
                        }))
                    }
                });
                let service = service(app.clone(), head_time, stopping.clone(), move |_, data| {
                    data.insert(connections.one_more());
                    if let Some(hsts) = hsts.as_ref().filter(|_| has_real_one(&certificates)) {
                        data.insert(hsts.clone());
                    }
                });
                accept.and_then(watched(service, |(_, _, peer)| *peer, not_http.clone()))
            })
        }
    };
    Ok(builder?.run())
}

/// For the command line.
pub(super) fn control(config: &Config, app: &App, on: UnixListener, most: usize) -> io::Result<Server> {
    let builder = Server::build().workers(1).max_concurrent_connections(most);
    let builder = builder.disable_signals().shutdown_timeout(GRACE_SECONDS);
    let stopping = builder.graceful_shutdown_signal();
    let stopping = move || {
        let stopping = stopping.clone();
        async move { stopping.notified().await }
    };
    let (app, head_time) = (app.clone(), config.server.head_time);
    let builder = builder.listen_uds("control", on, move || {
        fn_service(|stream: UnixStream| async { Ok((stream, Protocol::Http1, None)) }).and_then(service(
            app.clone(),
            head_time,
            stopping.clone(),
            |stream: &UnixStream, data| {
                if let Some(peer) = control::peer(stream) {
                    data.insert(peer);
                }
            },
        ))
    })?;
    Ok(builder.run())
}

/// For those who come by plain HTTP.
pub(super) fn redirect(
    challenges: &HttpChallenges,
    on: TcpListener,
    https_port: u16,
    most: usize,
    not_http: &NotHttp,
) -> io::Result<Server> {
    let builder = Server::build().workers(1).max_concurrent_connections(most);
    let builder = builder.disable_signals().shutdown_timeout(GRACE_SECONDS);
    let (challenges, not_http) = (challenges.clone(), not_http.clone());
    let builder = builder.listen("redirect", on, move || {
        let service = redirect::service(challenges.clone(), https_port);
        watched(service, |stream: &TcpStream| stream.peer_addr().ok(), not_http.clone())
    })?;
    Ok(builder.run())
}

/// What one worker does with connections of one kind.
fn service<T, F, S>(
    app: App,
    head_time: Duration,
    stopping: F,
    on_connect: impl Fn(&T, &mut Extensions) + 'static,
) -> impl ServiceFactory<(T, Protocol, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn() -> S + 'static,
    S: Future<Output = ()> + 'static,
{
    let routes = HttpApp::new().configure(move |config| app.configure(config)).wrap(from_fn(http::observe));
    let routes = actix_service::IntoServiceFactory::into_factory(routes);
    let routes = routes.map_err(|error: actix_web::Error| error.error_response());
    HttpService::build()
        .graceful_shutdown_signal(stopping)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(head_time)
        .client_disconnect_timeout(LINGER)
        // Whoever closes has hung up: what it waited for is not waited for any more.
        .h1_allow_half_closed(false)
        .on_connect_ext(on_connect)
        .finish(map_config(routes, |()| AppConfig::default()))
}

fn hsts(age: Duration) -> Option<Hsts> {
    HeaderValue::from_str(&format!("max-age={}", age.as_secs())).ok().map(Hsts)
}

/// Whether clients are shown anything that they can trust.
fn has_real_one(certificates: &Certificates) -> bool {
    certificates.all().first().is_some_and(|shown| shown.source != Source::SelfSigned)
}
