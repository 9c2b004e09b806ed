//! systemd: what it is told (`sd_notify(3)`), the watchdog that is fed only
//! while work gets done, and the sockets that it hands over. Where it did not
//! start the process, all of this does nothing.

use std::fmt::Display;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::db::Progress;

/// How often it is looked whether a migration has got further.
const LOOK_AT_PROGRESS: Duration = Duration::from_millis(500);
/// A migration that has got further is given this much longer to start.
const MORE_TIME: Duration = Duration::from_secs(60);
/// How often the status is looked at where there is no watchdog.
const LOOK_AT_STATUS: Duration = Duration::from_secs(5);
/// What closing the database and the like may take after the drain.
const TIME_TO_CLOSE: Duration = Duration::from_secs(30);
/// `FileDescriptorName=` of the socket that the interface is served on.
const MAIN: &str = "https";
/// `FileDescriptorName=` of the socket that plain HTTP is answered on.
const HTTP: &str = "http";

/// Sockets that systemd listens on for the service, so that nobody is refused
/// while it starts again.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    /// In place of `server.listen`.
    pub main: Option<TcpListener>,
    /// In place of `server.http_listen`.
    pub http: Option<TcpListener>,
}

/// Why the sockets that were handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandedOverError {
    /// It is not said what a socket is for.
    #[error(
        "systemd handed over a socket named {0:?}; say what it is for with FileDescriptorName={MAIN} or \
         FileDescriptorName={HTTP} in the socket unit"
    )]
    Unknown(String),
    /// Two sockets are for the same.
    #[error(
        "systemd handed over more than one socket named {0:?}; write one ListenStream= that takes all addresses, \
         such as ListenStream=443"
    )]
    Twice(&'static str),
    /// It is something else than a listening TCP socket.
    #[error("the socket {0:?} that systemd handed over is no TCP socket that listens: {1}")]
    Kind(&'static str, std::io::Error),
    /// It would carry keys and jobs over the network in the clear.
    #[error(
        "systemd handed over a socket on {0}, which is not a loopback address, and tls.mode is off: everyone on the \
         way could read keys and jobs; switch TLS on, or set server.expose_keys_and_jobs_unencrypted = true"
    )]
    Plain(SocketAddr),
}

/// Takes the sockets that systemd handed over; the first call gets them.
///
/// # Errors
/// When there is one that nobody knows what to do with.
pub(super) fn handed_over() -> Result<HandedOver, HandedOverError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut sockets = ListenFd::from_env();
    let mut taken = HandedOver::default();
    for place in 0..sockets.len() {
        let (name, room) = match names.next().unwrap_or("unknown") {
            MAIN => (MAIN, &mut taken.main),
            HTTP => (HTTP, &mut taken.http),
            other => return Err(HandedOverError::Unknown(other.to_owned())),
        };
        let kind = |error| HandedOverError::Kind(name, error);
        let Some(socket) = sockets.take_tcp_listener(place).map_err(kind)? else { continue };
        socket.set_nonblocking(true).map_err(kind)?;
        if room.replace(socket).is_some() {
            return Err(HandedOverError::Twice(name));
        }
    }
    Ok(taken)
}

/// Asks for more time for as long as a migration gets further; dropped once the
/// service has been built.
pub(super) struct Starting {
    _over: mpsc::Sender<()>,
}

impl Starting {
    pub(super) fn watch(progress: Progress) -> Self {
        let (over, is_over) = mpsc::channel();
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            std::thread::spawn(move || {
                let mut seen = 0;
                while is_over.recv_timeout(LOOK_AT_PROGRESS) == Err(RecvTimeoutError::Timeout) {
                    let now = progress.made();
                    if now != seen {
                        seen = now;
                        let status = NotifyState::Status("bringing the database to this version");
                        tell(&[NotifyState::ExtendTimeoutUsec(micros(MORE_TIME)), status]);
                    }
                }
            });
        }
        Self { _over: over }
    }
}

/// Says that clients are served.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the service stops and how long that may take.
pub(super) fn stopping(drain: Duration) {
    let status = NotifyState::Status("stopping: finishing what runs, refusing new work");
    let time = NotifyState::ExtendTimeoutUsec(micros(drain + TIME_TO_CLOSE));
    tell(&[NotifyState::Stopping, time, status]);
}

/// Says why it ended.
pub(super) fn failed(error: &impl Display) {
    tell(&[NotifyState::Status(&one_line(&format!("failed: {error}")))]);
}

/// Feeds the watchdog for as long as the database's writer and the runtime of
/// the jobs answer, and keeps the status line true. Never ends.
pub(super) async fn keep(app: &App, jobs_on: &Handle, status: impl Fn() -> String) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    // Fed four times as often as needed, so that one that is late does no harm.
    let every = sd_notify::watchdog_enabled().map_or(LOOK_AT_STATUS, |limit| limit / 4);
    let mut said = String::new();
    loop {
        pulse(&app.db, jobs_on, every, || tell(&[NotifyState::Watchdog])).await;
        let now = one_line(&status());
        if now == said {
            tell(&[NotifyState::Watchdog]);
        } else {
            tell(&[NotifyState::Watchdog, NotifyState::Status(&now)]);
            said = now;
        }
        sleep(every).await;
    }
}

/// Comes back once the writer has come by and the jobs' runtime has run
/// something; says in the log which of them does not answer within `patience`.
/// `alive` is called as often as that while the writer works through what waits
/// before: a slow disk is no hung one.
async fn pulse(db: &crate::db::Db, jobs_on: &Handle, patience: Duration, alive: impl Fn()) {
    let (answer, written) = tokio::sync::oneshot::channel();
    let mut seen = db.batches();
    // A write that fails is an answer too: the disk may be full.
    db.write_always(
        |_| Ok(()),
        move |_| {
            let _ = answer.send(());
        },
    );
    let works = || {
        let now = db.batches();
        let works = now != std::mem::replace(&mut seen, now);
        if works {
            alive();
        }
        works
    };
    answered("the writer of the database", written, patience, works).await;
    answered("the runtime of the jobs", jobs_on.spawn(async {}), patience, || false).await;
}

async fn answered(who: &str, answer: impl Future, patience: Duration, mut works: impl FnMut() -> bool) {
    let mut answer = pin!(answer);
    let mut told = false;
    while timeout(patience, &mut answer).await.is_err() {
        if !works() && !std::mem::replace(&mut told, true) {
            let seconds = patience.as_secs_f64();
            tracing::error!(seconds, "{who} does not answer; the watchdog is not fed meanwhile");
        }
    }
    if told {
        tracing::warn!("{who} answers again");
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// A line break would begin another message.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Options};

    fn database(folder: &std::path::Path) -> Db {
        let options = Options {
            path: folder.join("agentd.db"),
            readers: 1,
            read_deadline: Duration::from_secs(5),
            queue: 16,
            wal_bound: 1 << 20,
            min_free_bytes: 0,
            progress: Progress::default(),
            more_migrations: Vec::new(),
        };
        Db::open(options, &prometheus::Registry::new()).expect("opens").0
    }

    #[test]
    fn there_is_no_pulse_while_the_writer_hangs() {
        let folder = tempfile::tempdir().expect("a folder");
        let db = database(folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let jobs_on = runtime.handle().clone();
        let patience = Duration::from_millis(1);
        runtime.block_on(async {
            pulse(&db, &jobs_on, patience, || ()).await;
            let (go_on, hung) = mpsc::channel::<()>();
            let (begun, begins) = mpsc::channel();
            let hung = std::sync::Mutex::new(hung);
            let hang = move |_: &crate::db::Tx<'_>| {
                begun.send(()).expect("sent");
                hung.lock().expect("a lock").recv().expect("told to go on");
                Ok(())
            };
            db.write_with(hang, |_| ());
            begins.recv().expect("it hangs");
            let mut late = pin!(pulse(&db, &jobs_on, patience, || ()));
            assert!(timeout(Duration::from_millis(50), &mut late).await.is_err(), "a hung writer has a pulse");
            go_on.send(()).expect("sent");
            late.await;
        });
        db.close();
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=1\r\u{7f}"), "a READY=1  ");
    }

    #[test]
    fn spans_that_do_not_fit_are_as_long_as_can_be() {
        assert_eq!(micros(Duration::from_secs(1 << 40)), u32::MAX);
    }
}
