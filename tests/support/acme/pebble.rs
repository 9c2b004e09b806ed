//! Let's Encrypt's own test server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::tls::Dial;
use super::process::Helper;
use super::{Authority, Options};

/// A key for external account binding, as pebble is told of it.
pub const EAB: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// A running pebble. It keeps nothing: a new one knows no account and no
/// certificate and has another root.
pub struct Pebble {
    manage: String,
    config: PathBuf,
    names: String,
    nonce_reject: u8,
    helper: Option<Helper>,
    address: String,
}

impl Pebble {
    /// Starts it behind the proxy.
    pub fn start(folder: &Path, ip: &str, authority: &Authority, names: &str, options: &Options) -> Self {
        let (address, manage) = (format!("{ip}:14000"), format!("{ip}:15000"));
        let mut inner = json!({
            "listenAddress": address,
            "managementListenAddress": manage,
            "certificate": authority.certificate,
            "privateKey": authority.key,
            "httpPort": super::bench::HTTP_PORT,
            "tlsPort": super::bench::TLS_PORT,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": options.eab,
            "certificateValidityPeriod": options.validity.as_secs(),
        });
        if options.eab {
            inner["externalAccountMACKeys"] = json!({ EAB.0: EAB.1 });
        }
        let config = folder.join("pebble.json");
        std::fs::write(&config, json!({ "pebble": inner }).to_string()).expect("written");
        let mut pebble =
            Self { manage, config, names: names.into(), nonce_reject: options.nonce_reject, helper: None, address };
        pebble.start_again();
        pebble
    }

    /// Forgets everything, as a directory does that has lost its database.
    pub fn start_again(&mut self) {
        self.helper = None;
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&self.config).args(["-dnsserver", &self.names]).arg("-strict");
        command.env("PEBBLE_WFE_NONCEREJECT", self.nonce_reject.to_string());
        command.env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_VA_NOSLEEP", "1");
        let said = self.config.with_extension("log");
        self.helper = Some(Helper::start(&mut command, "pebble", &said, &[&self.address, &self.manage]));
    }

    /// Certificates are valid for so long after the next start.
    pub fn set_validity(&self, validity: Duration) {
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(&self.config).expect("it is there")).expect("JSON");
        config["pebble"]["certificateValidityPeriod"] = json!(validity.as_secs());
        std::fs::write(&self.config, config.to_string()).expect("written");
    }

    fn ask(&self, path: &str) -> String {
        let mut tls = Dial::anybody(&self.manage).connect().expect("pebble's management");
        tls.send(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.manage));
        let answer = tls.read_to_end();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer:?}"));
        assert!(head.contains(" 200 "), "{path}: {head}\n{body}");
        body.to_owned()
    }

    /// The root that its certificates lead to, PEM.
    pub fn root(&self) -> String {
        self.ask("/roots/0")
    }

    /// What it says of a certificate: `Status` is `Valid` or `Revoked`.
    pub fn certificate(&self, serial: &str) -> Value {
        let answer = self.ask(&format!("/cert-status-by-serial/{}", serial.trim_start_matches('0')));
        serde_json::from_str(&answer).expect("JSON")
    }
}
