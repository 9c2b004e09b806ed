//! What tells others how the service is: health, readiness, version, metrics.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use prometheus::{Encoder as _, IntGauge, Opts, Registry, TextEncoder};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::auth::MetricsReader;
use crate::db::Db;
use crate::http::openapi::Answer;
use crate::http::{Open, Problem, Routes};
use crate::jobs::Jobs;
use crate::models::Gateway;
use crate::telemetry::ProcessMetrics;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    let alive = || Answer::json::<Alive>("The process answers.").showing(json!({ "status": "ok" }));
    Routes::of("Health", "How the service is.")
        .with(Method::GET, "/health", health, |it| {
            it.named("getHealth", "Whether the process answers").answer(StatusCode::OK, alive())
        })
        .with(Method::GET, "/api/v1/health", health, |it| {
            it.named("getHealthV1", "The same as `/health`").answer(StatusCode::OK, alive())
        })
        .with(Method::GET, "/ready", ready, |it| {
            it.named("getReady", "Whether work is taken and done")
                .answer(StatusCode::OK, Answer::json::<Readiness>("Work is taken and done."))
                .answer(StatusCode::SERVICE_UNAVAILABLE, Answer::json::<Readiness>("It is not, and why."))
        })
        .with(Method::GET, "/version", version, |it| {
            it.named("getVersion", "Which version this is")
                .answer(StatusCode::OK, Answer::json::<Version>("Name and version."))
        })
        .with(Method::GET, "/metrics", metrics, |it| {
            it.named("getMetrics", "Metrics for Prometheus")
                .about("For this machine, the holder of the metrics token, and the administrator.")
                .answer(StatusCode::OK, Answer::text("text/plain", "Metrics in Prometheus' text format."))
        })
}

/// What the routes look at.
pub struct Health {
    db: Db,
    jobs: Jobs,
    gateway: Gateway,
    process: ProcessMetrics,
    database_bytes: IntGauge,
    wal_bytes: IntGauge,
    free_bytes: IntGauge,
    waiting_writes: IntGauge,
    ready: IntGauge,
}

impl Health {
    /// Registers its gauges.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(
        db: Db,
        jobs: Jobs,
        gateway: Gateway,
        process: ProcessMetrics,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let info = Opts::new("agentd_build_info", "Always 1; the label tells the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let info = IntGauge::with_opts(info)?;
        info.set(1);
        registry.register(Box::new(info))?;
        Ok(Self {
            database_bytes: gauge("agentd_db_size_bytes", "Size of the database file.")?,
            wal_bytes: gauge("agentd_db_wal_bytes", "Size of the database's write-ahead log.")?,
            free_bytes: gauge("agentd_disk_free_bytes", "Free space where the data lies.")?,
            ready: gauge("agentd_ready", "1 while work is taken and done, as /ready tells it, else 0.")?,
            waiting_writes: gauge("agentd_db_waiting_writes", "Writes that wait for the database.")?,
            db,
            jobs,
            gateway,
            process,
        })
    }

    fn refresh(&self) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let (database, wal) = self.db.file_bytes();
        set(&self.database_bytes, database);
        set(&self.wal_bytes, wal);
        set(&self.free_bytes, self.db.free_bytes());
        set(&self.waiting_writes, self.db.waiting_writes() as u64);
        self.ready.set(i64::from(self.failing().is_empty()));
        self.process.refresh();
        self.jobs.refresh_metrics();
    }

    fn failing(&self) -> Vec<Failing> {
        let mut failing = Vec::new();
        if let Some(error) = self.db.fault() {
            failing.push(Failing { part: "database", detail: error.to_string() });
        }
        if self.db.nearly_full() {
            failing.push(Failing { part: "disk", detail: "nearly full; new work is refused".into() });
        }
        if self.jobs.is_draining() {
            failing.push(Failing { part: "service", detail: "is being stopped".into() });
        } else if !self.jobs.is_running() {
            failing.push(Failing { part: "executor", detail: "has not been started".into() });
        }
        failing
    }

    /// What does not work, but keeps nobody else from working.
    fn degraded(&self) -> Vec<Failing> {
        let detail = |(provider, models): (String, Vec<String>)| Failing {
            part: "models",
            detail: format!("the provider {provider} has failed too often of late for {}", models.join(", ")),
        };
        self.gateway.left_alone().into_iter().map(detail).collect()
    }
}

/// A part that does not do its work.
#[derive(Serialize, JsonSchema)]
struct Failing {
    /// Which part.
    part: &'static str,
    /// What is wrong with it.
    detail: String,
}

/// Whether the service does its work.
#[derive(Serialize, JsonSchema)]
struct Readiness {
    #[schemars(extend("enum" = ["ready", "unavailable"]))]
    status: &'static str,
    /// What keeps it from its work.
    failing: Vec<Failing>,
    /// What does not work, but keeps nothing else from working: providers of
    /// models that are left alone for a while.
    degraded: Vec<Failing>,
}

/// What the process answers as long as it can.
#[derive(Serialize, JsonSchema)]
struct Alive {
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
}

/// The process answers; nothing more.
async fn health(_: Open) -> HttpResponse {
    HttpResponse::Ok().json(Alive { status: "ok" })
}

/// Work is taken and done.
async fn ready(_: Open, health: web::Data<Health>) -> HttpResponse {
    let failing = health.failing();
    let (code, status) =
        if failing.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    HttpResponse::build(code).json(Readiness { status, failing, degraded: health.degraded() })
}

/// What runs here.
#[derive(Serialize, JsonSchema)]
struct Version {
    /// `agentd`.
    name: &'static str,
    /// Its version.
    version: &'static str,
}

async fn version(_: Open) -> HttpResponse {
    HttpResponse::Ok().json(Version { name: "agentd", version: env!("CARGO_PKG_VERSION") })
}

async fn metrics(
    _: MetricsReader,
    health: web::Data<Health>,
    registry: web::Data<Registry>,
) -> Result<HttpResponse, Problem> {
    health.refresh();
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&registry.gather(), &mut text).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type(encoder.format_type()).body(text))
}
