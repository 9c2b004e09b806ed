//! Another ACME server than pebble: caddy's. It looks at the true ports.

use crate::support::Setup;
use crate::support::acme::{CaddyAcme, own_address};
use crate::support::tls::Dial;
use crate::{another, issued};

const NAME: &str = "agents.example.test";

#[track_caller]
fn issue_and_renew(challenge: &str) {
    let ip = own_address();
    let caddy = CaddyAcme::start(&ip, &[NAME]);
    let tls = format!("{ip}:443");
    let server = Setup::real()
        .listen(&tls)
        .env("AGENTD_SERVER_HTTP_LISTEN", &format!("{ip}:80"))
        .env("AGENTD_TLS_MODE", "acme")
        .env("AGENTD_ACME_DOMAINS", NAME)
        .env("AGENTD_ACME_DIRECTORIES", &caddy.directory())
        .env("AGENTD_ACME_CA_FILE", &caddy.ca_file().to_string_lossy())
        .env("AGENTD_ACME_CHALLENGES", challenge)
        .start();
    let first = issued(&server, NAME);
    server.admin().post(&format!("/admin/certificates/{NAME}/renew"), &serde_json::json!({})).expect(202);
    let second = another(&server, NAME, &first["serial"]);
    let shown = Dial::trusting(&tls, &caddy.root_file()).name(NAME).connect().expect("it is trusted");
    assert_eq!(second["serial"], shown.serial());
}

#[test]
fn caddy_issues_by_http_01() {
    issue_and_renew("http-01");
}

#[test]
fn caddy_issues_by_tls_alpn_01() {
    issue_and_renew("tls-alpn-01");
}
