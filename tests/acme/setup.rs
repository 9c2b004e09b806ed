//! `agentd setup` to its end: a fresh service, a file, a restart, a first user,
//! and a certificate that clients trust.

use serde_json::{Value, json};

use crate::shown;
use crate::support::acme::Bench;
use crate::support::cli::{Said, say};
use crate::support::{Server, Setup};

const NAME: &str = "agents.example.test";
const PASSWORD: &str = "correct horse battery";

#[test]
fn a_fresh_service_gets_its_certificate() {
    let bench = Bench::new();
    let file = bench.path("agentd.toml");
    std::fs::write(&file, "# Mine.\n[log]\nlevel = \"info\"\n").expect("written");
    let mut server = Setup::real().listen(&bench.tls_address()).env("AGENTD_CONFIG", &file.to_string_lossy()).start();
    let set_up = |server: &Server| -> Said {
        let mut verb = server.verb(&["setup", "--no-restart", "--json", "--domain", NAME, "--accept-terms"]);
        verb.args(["--email", "ops@example.test", "--password-file", "-", "--wait", "60s", "--config"]).arg(&file);
        verb.args(["--directory", &bench.proxy.directory(), "--listen", &bench.tls_address()]);
        verb.args(["--http-listen", &bench.http_address(), "--ca-file"]).arg(bench.ca_file());
        say(&mut verb, PASSWORD)
    };
    let first = set_up(&server).json();
    assert_eq!((&first["admin"], &first["needs_restart"]), (&json!("admin"), &json!(true)));
    server.stop();
    server.start_again(|setup| setup);

    let said = set_up(&server);
    assert!(said.err.contains("says all this already"), "{said:?}");
    let second = said.json();
    assert_eq!((&second["admin"], &second["needs_restart"]), (&Value::Null, &json!(false)));
    assert_eq!(second["certificates"][0]["serial"], shown(&bench, NAME));
    assert!(std::fs::read_to_string(&file).expect("text").starts_with("# Mine.\n"));
    assert_eq!(server.ask_json(&["status"])["warnings"], json!([]));
    assert_eq!(bench.proxy.orders().len(), 1, "running it again orders nothing again");

    let key = first["key"].as_str().expect("a key").to_owned();
    let log = server.stop().join("\n");
    for secret in [PASSWORD, &key] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
