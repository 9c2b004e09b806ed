//! The section on TLS: which certificate is shown, and how connections are kept
//! in bounds.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::sections::key;
use super::setting::{HOUR, INSTANT, OrOff, Setting};

/// Where the certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// There is none: plain HTTP.
    Off,
    /// Made by the service itself; clients do not trust it.
    SelfSigned,
    /// From two files, which are watched.
    Files,
    /// Ordered by ACME; see `[acme]`.
    Acme,
}

impl Setting for TlsMode {
    const EXPECTED: &'static str = "off, self_signed, files or acme";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "self_signed" => Some(Self::SelfSigned),
            "files" => Some(Self::Files),
            "acme" => Some(Self::Acme),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::SelfSigned => "self_signed",
            Self::Files => "files",
            Self::Acme => "acme",
        }
        .into()
    }
}

/// `[tls]`
#[derive(Clone, Debug)]
pub struct TlsSection {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// Mode `files`: the certificate with its chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// Mode `files`: its private key, PEM.
    pub key_file: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
    /// How long browsers are told to use HTTPS only; `None`: they are not.
    pub hsts: Option<Duration>,
    /// Time for a client to complete a handshake.
    pub handshake_time: Duration,
    /// Connections that are held at the same time, plain ones included.
    pub connections: usize,
}

impl TlsSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mode = key("tls.mode", "Where the certificate comes from: off (plain HTTP), self_signed, files or acme.");
        let hsts = key(
            "tls.hsts",
            "How long browsers that have seen a real certificate are told to use HTTPS only: a span, or off.",
        );
        Self {
            mode: reader.value(mode, TlsMode::Off),
            cert_file: reader.optional(key("tls.cert_file", "Mode files: the certificate and its chain, PEM.")),
            key_file: reader.optional(key("tls.key_file", "Mode files: the private key, PEM.")),
            http2: reader.value(key("tls.http2", "Whether HTTP/2 is offered beside HTTP/1.1."), false),
            hsts: reader.value(hsts, OrOff::On(Duration::from_secs(365 * 86_400))).into(),
            handshake_time: reader.span(
                key("tls.handshake_time", "Time that a client has for a handshake."),
                Duration::from_secs(5),
                INSTANT..=HOUR,
            ),
            connections: reader.value(
                key("tls.connections", "Connections that are held at the same time; more wait in the kernel."),
                20_000,
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        let files = [("tls.cert_file", &self.cert_file), ("tls.key_file", &self.key_file)];
        for (key, file) in files {
            match (self.mode, file) {
                (TlsMode::Files, None) => {
                    reader.fault_without("tls.mode", &[key], format!("tls.mode = \"files\" needs {key} too"));
                }
                (TlsMode::Files, Some(_)) | (_, None) => {}
                (_, Some(_)) => reader.warn(format!("{key} says nothing while tls.mode is {}", self.mode.show())),
            }
        }
    }
}
