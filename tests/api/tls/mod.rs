//! HTTPS: which certificate is shown and when it changes, plain HTTP beside it,
//! and who does not keep to the rules.

mod authority;
mod chains;
mod expiry;
mod files;
mod floods;
mod hostile;
mod kinds;
mod leaks;
mod limits;
mod redirect;
mod serving;
mod swap;

use std::path::PathBuf;

use crate::support::tls::{Dial, Made, Tls};
use crate::support::{Server, Setup};

/// A request that leaves the connection open.
const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The last request of a connection.
const LAST: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server with a certificate that it made itself.
fn https() -> Server {
    Setup::real().https().start()
}

fn dial(server: &Server) -> Dial {
    Dial::anybody(&server.address())
}

fn connect(server: &Server) -> Tls {
    dial(server).connect().expect("a connection")
}

/// Certificate files in a folder of their own.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn of(made: &Made) -> Self {
        let pair = Self { folder: tempfile::TempDir::new().expect("a folder") };
        made.write(&pair.certificate(), &pair.key());
        pair
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// A server that shows them.
    fn setup(&self) -> Setup {
        self.over(Setup::real())
    }

    /// The same in place of what a setup has.
    fn over(&self, setup: Setup) -> Setup {
        setup
            .env("AGENTD_TLS_MODE", "files")
            .env("AGENTD_TLS_CERT_FILE", &self.certificate().to_string_lossy())
            .env("AGENTD_TLS_KEY_FILE", &self.key().to_string_lossy())
    }
}

/// How many handshakes have ended so, as the metrics tell.
fn handshakes(server: &Server, outcome: &str) -> u64 {
    let metrics = server.admin().get("/metrics").expect_text(200).to_owned();
    let name = format!("agentd_tls_handshakes_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
    value.unwrap_or(0)
}
