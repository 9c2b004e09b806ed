//! What the process is told by signals.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;

/// Two signals within this are one: service managers, container runtimes and
/// shells each send theirs.
const TOGETHER: Duration = Duration::from_millis(500);

/// Takes SIGHUP from now on, which would end the process; one that comes before
/// the service is ready is obeyed then. Must be called on a runtime.
pub(super) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reads the configuration again at each SIGHUP. Never ends.
pub(super) async fn reload(mut hangup: Signal, app: App) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading the configuration again");
        // What went wrong is in the log.
        let _ = app.reload().await;
    }
    std::future::pending::<()>().await;
}

/// The signals that end the service.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes them from now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one.
    pub(super) async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for another one that is not part of the first.
    pub(super) async fn told_again(&mut self, first: Instant) {
        loop {
            self.told().await;
            if first.elapsed() >= TOGETHER {
                return;
            }
            tracing::debug!("a second signal came together with the first: they are one");
        }
    }
}
