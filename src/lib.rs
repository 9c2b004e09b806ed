//! agentd: durable jobs, tools and agents over HTTP, in one static binary with
//! its database inside.
//!
//! The rooms, from the top: a module may use those below it, never one above.
//! A test walks the imports and holds this list to it (`tests/architecture.rs`).

/// One allocator for the service, its tests and the benchmarks' limits.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The command line.
pub mod cli;
// Running as a service: listening, readiness, signals, draining.
pub mod serve;
// Whether what HTTPS by ACME needs is there, and what to do where it is not.
pub mod doctor;
// Builds every service once and hands out cheap clones.
pub mod app;
// How the service is, for the people who look after it.
pub mod status;
// What tells others how the service is.
pub mod health;
// The interface as a document and as a page.
pub mod docs;
// The first user of a fresh service.
pub mod setup;
// Certificates: which is shown, where it comes from, when it is renewed.
pub mod tls;
// Jobs that choose their tools themselves.
pub mod agents;
// Copies of everything, and restoring them.
pub mod backups;
// The built-in tools.
pub mod tools;
// Language models: providers, routes, prices, the wire format.
pub mod models;
// Durable jobs: queue, executor, events.
pub mod jobs;
// What tenants may spend and have spent.
pub mod budgets;
// Tenants and their API keys.
pub mod tenants;
// People who administer the service.
pub mod users;
// Who is calling and what they may do.
pub mod auth;
// What each tenant may use and has used.
pub mod limits;
// Files in a bucket of S3-compatible storage.
pub mod s3;
// What all routes share.
pub mod http;
// Secrets sealed at rest, and the key that seals them.
pub mod vault;
// The one way out of the service, guarded.
pub mod outbound;
// Logs and metrics.
pub mod telemetry;
// The database engine.
pub mod db;
// Configuration and where each value comes from.
pub mod config;
// Addresses of networks and of web pages.
pub mod net;
// Text for people: near names, values with what nobody sees written out.
pub mod text;
// Certificates and keys as files hold them.
pub mod pem;
// Money.
pub mod money;
// Identifiers.
pub mod id;
// Time.
pub mod clock;
