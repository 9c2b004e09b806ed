//! Running as a service: bind, build, serve, and on SIGTERM drain and close.

mod control;
mod files;
mod listen;
mod systemd;

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{App as HttpApp, HttpServer};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, BuildError, Extras, Start};
use crate::config::{Config, Loaded, Sources};
use crate::db::Progress;
use crate::http;

pub use control::ControlError;
pub use systemd::HandedOverError;

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long it may take until a connection that was accepted is at its worker.
const HAND_ON: Duration = Duration::from_millis(100);
/// How long answers in flight may take once jobs have been drained.
const HTTP_GRACE_SECONDS: u64 = 5;

/// Why the service ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", listen::hint(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The control socket cannot be had.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The sockets of systemd cannot be used.
    #[error(transparent)]
    HandedOver(#[from] HandedOverError),
    /// The services could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A runtime or the server could not be started.
    #[error("the service could not be run: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs the service until SIGTERM or SIGINT has been obeyed.
///
/// # Errors
/// When it could not be started.
pub fn run(loaded: &Loaded, sources: Sources, extras: Extras) -> Result<(), ServeError> {
    run_until_told(loaded, sources, extras).inspect_err(|error| systemd::failed(error))
}

fn run_until_told(loaded: &Loaded, sources: Sources, extras: Extras) -> Result<(), ServeError> {
    let config = &loaded.config;
    let open_files = files::raise_limit();
    tracing::info!(open_files, "starting");
    // Bound first, so that a taken port is told before the data is touched;
    // it listens only once everything else is ready.
    let handed_over = systemd::handed_over()?;
    let stays = handed_over.main.is_some();
    let socket = match handed_over.main {
        Some(socket) => listen::take_over(socket, config)?,
        None => listen::bind(config.server.listen)?,
    };
    let jobs_on = tokio::runtime::Builder::new_multi_thread().thread_name("agentd-job").enable_all().build()?;
    let handle = jobs_on.handle().clone();
    let start = Start { sources, shown: loaded.shown.clone(), progress: Progress::default() };
    let starting = systemd::Starting::watch(start.progress.clone());
    let app = jobs_on.block_on(App::build(config, start, extras, handle.clone()))?;
    drop(starting);
    // The data folder is locked: what lies there is nobody else's.
    let control = match config.control_socket().map(|path| control::Control::bind(&path)).transpose() {
        Ok(control) => control,
        // Nobody asked for a socket there, so a deep data folder is no fault.
        Err(error @ ControlError::TooLong { .. }) if config.server.control_socket.is_none() => {
            tracing::warn!("there is no control socket: {error}");
            None
        }
        Err(error) => {
            jobs_on.block_on(app.close());
            return Err(error.into());
        }
    };
    let sockets = Sockets { tcp: socket, stays, control };
    let outcome = actix_web::rt::System::new().block_on(serve(config, &app, sockets, &handle));
    jobs_on.block_on(app.close());
    // A handler that never ends must not keep the process.
    jobs_on.shutdown_background();
    outcome
}

/// Bound, and listening only once everything else is ready.
struct Sockets {
    tcp: socket2::Socket,
    /// Whether systemd goes on listening when this process ends.
    stays: bool,
    control: Option<control::Control>,
}

async fn serve(
    config: &Config,
    app: &App,
    sockets: Sockets,
    jobs_on: &tokio::runtime::Handle,
) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    app.start(jobs_on).await?;
    let listener = listen::listen(sockets.tcp, config.server.listen)?;
    let address = listener.local_addr()?;
    let for_workers = app.clone();
    let (control, _control_file) = sockets.control.map(control::Control::listen).transpose()?.unzip();
    let mut server = HttpServer::new(move || {
        let app = for_workers.clone();
        HttpApp::new().configure(|config| app.configure(config)).wrap(from_fn(http::observe))
    })
    .disable_signals()
    // Whoever closes has hung up: what it waited for is not waited for any more.
    .h1_allow_half_closed(false)
    // Events are small and wanted at once.
    .tcp_nodelay(true)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(config.server.head_time)
    .shutdown_timeout(HTTP_GRACE_SECONDS)
    .on_connect(|connection, data| {
        if let Some(peer) = control::peer(connection) {
            data.insert(peer);
        }
    })
    .listen(listener)?;
    if let Some(control) = control {
        server = server.listen_uds(control)?;
    }
    let server = server.run();
    let handle = server.handle();
    let mut server = actix_web::rt::spawn(server);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), data = %config.data.dir.display(), "ready");
    let status = || systemd::status(app, address);
    systemd::ready(&status());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = systemd::keep(app, jobs_on, status) => {}
        ended = &mut server => {
            // Without its server the process would live on deaf.
            let ended = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let by_itself = || std::io::Error::other("the HTTP server ended by itself");
            return Err(ended.err().unwrap_or_else(by_itself).into());
        }
    }
    tracing::info!(seconds = config.server.drain_time.as_secs(), "stopping: finishing what runs, refusing new work");
    systemd::stopping(config.server.drain_time);
    let drain = async {
        app.jobs.drain(config.server.drain_time).await;
        if sockets.stays {
            // What connects from now on is for the next process. What has been
            // accepted must have come to a worker, which forgets its queue when
            // it is told to stop, and tells nobody how long that is.
            handle.pause().await;
            tokio::time::sleep(HAND_ON).await;
        }
        handle.stop(true).await;
    };
    tokio::select! {
        () = drain => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    server.abort();
    Ok(())
}
