//! Black-box tests of the HTTP interface and the command line: every one
//! starts the real program and talks to it as a client does.

#![allow(clippy::expect_used, reason = "in a test a broken expectation is what it is there to tell")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers of the tests are small"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin_jobs;
mod agent;
mod attempts;
mod backups;
mod bad_input;
mod budgets;
mod bulk;
mod certificates;
mod cli;
mod clock;
mod config;
mod connections;
mod cors;
mod crash;
mod demo;
mod doctor;
mod drain;
mod events;
mod first_start;
mod gateway;
mod guide;
mod hostile_jobs;
mod http;
mod idempotency;
mod jobs;
mod keys;
mod limits;
mod listing;
mod models;
mod queue;
mod openai_clients;
mod openapi;
mod quick_start;
mod reload;
mod responses;
mod retention;
mod packaged;
mod prices;
mod proxies;
mod quota;
mod rotation;
mod setup;
mod setup_verb;
mod shapes;
mod slow_clients;
mod socket;
mod start;
mod status;
mod steps;
mod systemd;
mod tenants;
mod tls;
mod usage;
mod users;
mod vault;
mod waiting;
mod web;
mod words;

use support::{Client, Server};

/// The testbed and somebody with a key.
fn testbed() -> (Server, Client) {
    let server = Server::testbed();
    let client = server.client();
    (server, client)
}

/// The shipped binary and somebody with a key.
fn real() -> (Server, Client) {
    let server = Server::real();
    let client = server.client();
    (server, client)
}
