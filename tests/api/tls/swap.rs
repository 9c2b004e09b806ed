//! A certificate that changes while many connections are made and used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::eventually;
use crate::support::tls::{Dial, Made};

use super::{HEALTH, LAST, Pair, connect};

/// Asks over one connection as long as it is told to go on.
fn keeps_one(address: &str, go_on: &AtomicBool, answered: &AtomicU64) {
    let mut connection = Dial::anybody(address).connect().expect("a connection");
    while go_on.load(Ordering::Relaxed) {
        let (head, body) = connection.exchange(HEALTH).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{body}");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes a connection for each request; every other one resumes a session.
fn makes_many(address: &str, go_on: &AtomicBool, answered: &AtomicU64) {
    let (fresh, resuming) = (Dial::anybody(address), Dial::anybody(address).resuming());
    while go_on.load(Ordering::Relaxed) {
        for dial in [&fresh, &resuming] {
            let mut connection = dial.connect().expect("a connection");
            connection.send(LAST);
            let answer = connection.read_to_end();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn no_request_is_lost_when_the_certificate_changes() {
    let pair = Pair::of(&Made::of(&["localhost"]));
    let server = pair.setup().start();
    let address = server.address();
    let (go_on, kept, made) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| keeps_one(&address, &go_on, &kept));
        }
        for _ in 0..2 {
            scope.spawn(|| makes_many(&address, &go_on, &made));
        }
        // Whatever goes wrong here, the others must come to their ends.
        let changing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..20 {
                let next = Made::of(&["localhost"]);
                next.write(&pair.certificate(), &pair.key());
                eventually("it is shown", || (connect(&server).serial() == next.serial).then_some(()));
            }
        }));
        go_on.store(false, Ordering::Relaxed);
        changing.expect("twenty changes");
    });
    let (kept, made) = (kept.into_inner(), made.into_inner());
    println!("{kept} requests over connections that were kept, {made} over new ones, none failed");
    assert!(kept > 1_000 && made > 100, "{kept} {made}");
}
