//! Names as the ACME server sees them: `pebble-challtestsrv`.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::process::Helper;

/// A server of names whose answers a test sets. A name that it knows nothing of
/// is at the bench's address. Clones set the same server's.
#[derive(Clone)]
pub struct Names {
    /// Where it answers questions.
    pub address: String,
    manage: String,
}

impl Names {
    pub fn start(folder: &Path, ip: &str) -> (Self, Helper) {
        let names = Self { address: format!("{ip}:8053"), manage: format!("{ip}:8055") };
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-defaultIPv4", ip]);
        command.args(["-dns01", &names.address, "-management", &names.manage]);
        let said = folder.join("names.log");
        let helper = Helper::start(&mut command, "pebble", &said, &[&names.address, &names.manage]);
        (names, helper)
    }

    fn set(&self, what: &str, body: &Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_connections(0).build().into();
        let url = format!("http://{}/{what}", self.manage);
        agent.post(url).send(body.to_string()).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    /// The name is at this address.
    pub fn at(&self, name: &str, ip: &str) {
        // What is added comes beside what is there.
        self.usual(name);
        self.set("add-a", &json!({ "host": dotted(name), "addresses": [ip] }));
    }

    /// The name is where all are.
    pub fn usual(&self, name: &str) {
        self.set("clear-a", &json!({ "host": dotted(name) }));
    }

    /// Nobody can say anything of the name.
    pub fn break_down(&self, name: &str) {
        self.set("set-servfail", &json!({ "host": dotted(name) }));
    }

    /// They can again.
    pub fn mend(&self, name: &str) {
        self.set("clear-servfail", &json!({ "host": dotted(name) }));
    }

    /// The address at which a program sets and clears records of `dns-01`:
    /// `set-txt` and `clear-txt` with `host` and `value`.
    pub fn records(&self) -> String {
        format!("http://{}", self.manage)
    }
}

fn dotted(name: &str) -> String {
    format!("{name}.")
}
