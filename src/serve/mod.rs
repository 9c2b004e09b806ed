//! Running as a service: bind, build, serve, and on SIGTERM drain and close.

mod control;
mod files;
mod front;
mod handshake;
mod listen;
mod not_http;
mod redirect;
mod signals;
mod systemd;

use std::net::SocketAddr;
use std::time::Instant;

use tokio::signal::unix::Signal;

use crate::app::{App, BuildError, Extras, Start};
use crate::config::{Config, Loaded, Sources, TlsMode};
use crate::db::{self, Progress};
use crate::tls;
use files::{Connections, Shares};
use front::Servers;
use handshake::Handshakes;
use not_http::NotHttp;
use signals::Stop;

pub use control::ControlError;
pub use files::TooFewFiles;
pub use systemd::HandedOverError;

/// Why the service ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", listen::hint(.source, *.address, setting))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What says so.
        setting: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The control socket cannot be had.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The sockets of systemd cannot be used.
    #[error(transparent)]
    HandedOver(#[from] HandedOverError),
    /// The process may have too few files open.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
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
    run_until_told(loaded, sources, extras).inspect_err(systemd::failed)
}

fn run_until_told(loaded: &Loaded, sources: Sources, extras: Extras) -> Result<(), ServeError> {
    let config = &loaded.config;
    let open_files = files::raise_limit();
    files::refuse_too_few(open_files)?;
    let jobs_on = tokio::runtime::Builder::new_multi_thread().thread_name("agentd-job").enable_all().build()?;
    let handle = jobs_on.handle().clone();
    // From here on it asks for the configuration to be read again, and does not end the process.
    let hangup = {
        let _on = handle.enter();
        signals::hangup()?
    };
    let handed_over = systemd::handed_over()?;
    let has_http = handed_over.http.is_some() || config.server.http_listen.is_some();
    let shares = Shares::of(open_files, config.tls.connections, has_http);
    tracing::info!(open_files, connections = shares.all_callers(), "starting");
    if let Some(bytes) = db::limit::of_file_size() {
        tracing::warn!(bytes, "no file may become larger than this (ulimit -f, LimitFSIZE=), the database included");
    }
    // Bound first, so that a taken port is told before the data is touched;
    // it listens only once everything else is ready.
    let stays = handed_over.main.is_some();
    let main = match handed_over.main {
        Some(socket) => listen::take_over(socket, config)?,
        None => listen::bind(config.server.listen, listen::MAIN)?,
    };
    let http = match (handed_over.http, config.server.http_listen) {
        (Some(socket), _) if config.tls.mode != TlsMode::Off => Some(socket.into()),
        (Some(_), _) => {
            tracing::warn!("systemd's socket for plain HTTP is of no use: it sends on to HTTPS, and tls.mode is off");
            None
        }
        (None, address) => address.map(|address| listen::bind(address, listen::HTTP)).transpose()?,
    };
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
    let sockets = Sockets { main, http, stays, control };
    let outcome = actix_web::rt::System::new().block_on(serve(config, &app, sockets, (shares, hangup), &handle));
    jobs_on.block_on(app.close());
    // A handler that never ends must not keep the process.
    jobs_on.shutdown_background();
    outcome
}

/// Bound, and listening only once everything else is ready.
struct Sockets {
    main: socket2::Socket,
    http: Option<socket2::Socket>,
    /// Whether systemd goes on listening when this process ends.
    stays: bool,
    control: Option<control::Control>,
}

async fn serve(
    config: &Config,
    app: &App,
    sockets: Sockets,
    (shares, hangup): (Shares, Signal),
    jobs_on: &tokio::runtime::Handle,
) -> Result<(), ServeError> {
    let mut stop = Stop::listen()?;
    let not_http = NotHttp::new(&app.metrics).map_err(BuildError::from)?;
    let handshakes = handshakes(config, app, &not_http)?;
    app.start(jobs_on).await.map_err(|error| error.of(config))?;
    let scheme = if handshakes.is_some() { "https" } else { "http" };
    let mut servers = Servers::default();
    let (control, _control_file) = sockets.control.map(control::Control::listen).transpose()?.unzip();
    if let Some(control) = control {
        servers.run(front::control(config, app, control, shares.control)?);
    }
    let main = listen::listen(sockets.main, config.server.listen, listen::MAIN)?;
    let address = main.local_addr()?;
    let mut http_address = None;
    if let Some(socket) = sockets.http {
        let configured = config.server.http_listen.unwrap_or(config.server.listen);
        let http = listen::listen(socket, configured, listen::HTTP)?;
        http_address = Some(http.local_addr()?);
        servers.run(front::redirect(&app.challenges, http, address.port(), shares.redirect, &not_http)?);
    }
    let connections = Connections::default();
    servers.run(front::callers(config, app, main, handshakes, (shares, &connections), &not_http)?);
    app.status.listens(address, http_address);
    let (version, data) = (env!("CARGO_PKG_VERSION"), config.data.dir.display());
    let http_address = http_address.map(|address| address.to_string());
    tracing::info!(%address, scheme, http_address, version, %data, "ready");
    let status = || app.status.line(address);
    systemd::ready(&status());
    tokio::select! {
        () = stop.told() => {}
        () = systemd::keep(app, jobs_on, status) => {}
        () = signals::reload(hangup, app.clone()) => {}
        () = connections.watch(shares.all_callers()) => {}
        error = servers.ended() => return Err(error.into()),
    }
    stop_serving(config, app, &servers, &mut stop, sockets.stays).await;
    Ok(())
}

/// Finishes what runs, unless another signal says not to.
async fn stop_serving(config: &Config, app: &App, servers: &Servers, stop: &mut Stop, stays: bool) {
    let told = Instant::now();
    tracing::info!(seconds = config.server.drain_time.as_secs(), "stopping: finishing what runs, refusing new work");
    systemd::stopping(config.server.drain_time);
    let drain = async {
        app.jobs.drain(config.server.drain_time).await;
        if stays {
            servers.leave_the_rest().await;
        }
        servers.stop().await;
    };
    tokio::select! {
        () = drain => tracing::info!("stopped"),
        () = stop.told_again(told) => tracing::warn!("stopped at once by a second signal"),
    }
}

/// How hands are shaken, where TLS is spoken.
fn handshakes(config: &Config, app: &App, not_http: &NotHttp) -> Result<Option<Handshakes>, ServeError> {
    if config.tls.mode == TlsMode::Off {
        return Ok(None);
    }
    let made = tls::server_config(&app.certificates, config.tls.http2).map_err(std::io::Error::other)?;
    let time = config.tls.handshake_time;
    Ok(Some(Handshakes::new(made, time, &app.metrics, not_http.clone()).map_err(BuildError::from)?))
}
