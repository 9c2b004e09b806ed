//! `agentd demo`: what a newcomer sees first.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::support::Setup;
use crate::support::server::run;

#[test]
fn the_demo_shows_jobs_and_an_agent_at_work() {
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("demo");
    let data = data.to_string_lossy();
    // When another program takes the port meanwhile, the demo takes another.
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").to_string();
    let setup = Setup::real();
    let (code, said) = run(&mut setup.command(&["demo", "--listen", &listen, "--data-dir", &data]));
    let (stopped, stop) = run(&mut setup.command(&["demo", "--stop", "--data-dir", &data]));
    assert_eq!(code, 0, "{said}");
    for part in [
        "\"name\":\"echo\"",
        "job.waiting",
        "step.failed",
        "\"kind\":\"plan\"",
        "\"name\":\"web.fetch\"",
        "\"name\":\"web.summarize\"",
        "  [1] http://127.0.0.1:",
        "written to disk before it is acknowledged",
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    assert_eq!((stopped, stop.trim()), (0, "the demo's service has been stopped"));
}
