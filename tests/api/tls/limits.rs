//! More connections than there may be, and fewer descriptors than there are
//! connections.

use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::server::run;
use crate::support::{Server, Setup, eventually};

use super::{HEALTH, connect, dial, https};

/// Processor time that it has used, in ticks of a hundredth of a second.
pub fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it runs");
    let fields = stat.rsplit_once(") ").expect("a name").1;
    let field = |place: usize| fields.split(' ').nth(place).and_then(|text| text.parse::<u64>().ok()).expect("ticks");
    field(11) + field(12)
}

fn open_files(server: &Server) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count() as u64
}

#[test]
fn more_connections_than_there_may_be_wait() {
    let server = Setup::real().https().env("AGENTD_TLS_CONNECTIONS", "8").start();
    let mut held: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    for connection in &mut held {
        assert!(connection.exchange(HEALTH).is_some());
    }
    let files = open_files(&server);
    // They are taken by the kernel and not by the service.
    let waiting: Vec<_> = (0..50).map(|_| TcpStream::connect(server.address()).expect("a connection")).collect();
    // Whoever runs the machine comes in all the same.
    let data = server.data().to_string_lossy().into_owned();
    let (code, said) = run(&mut Setup::real().command(&["tenant", "list", "--data-dir", &data]));
    assert_eq!(code, 0, "{said}");
    let more = open_files(&server).saturating_sub(files);
    assert!(more <= 2, "{more} more are held than there may be");
    for connection in &mut held {
        assert!(connection.exchange(HEALTH).is_some(), "those that are held go on");
    }
    drop((held, waiting));
    assert!(connect(&server).exchange(HEALTH).is_some());
}

#[test]
fn without_descriptors_it_neither_dies_nor_spins() {
    let server = https();
    let mut held = connect(&server);
    assert!(held.exchange(HEALTH).is_some());
    let limit = open_files(&server) + 8;
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a number"));
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).expect("a lower limit");
    let many: Vec<_> = (0..60).map(|_| TcpStream::connect(server.address()).expect("a connection")).collect();
    let refusals = || server.log().iter().filter(|line| line.contains("Error accepting connection")).count();
    eventually("there are none left", || (refusals() >= 1).then_some(()));
    let (used, told) = (ticks(&server), refusals());
    // Whether it spins shows in a while only.
    std::thread::sleep(Duration::from_secs(2));
    let (used, told) = (ticks(&server) - used, refusals() - told);
    assert!(used < 50, "{used} hundredths of a second of work in which there was nothing to do");
    assert!(told < 10, "{told} lines tell the same");
    for _ in 0..20 {
        assert!(held.exchange(HEALTH).is_some(), "those that are held go on");
    }
    drop(many);
    eventually("it takes connections again", || dial(&server).connect().ok()?.exchange(HEALTH));
}
