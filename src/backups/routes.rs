//! `/admin/backups`.

use std::collections::BTreeMap;
use std::path::Path;

use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Backups, Inner, Name, job};
use crate::auth::{Admin, Operator};
use crate::clock::Timestamp;
use crate::http::openapi::{Answer, Operation};
use crate::http::page::Page;
use crate::http::query::NoQuery;
use crate::http::{Problem, Routes};
use crate::jobs::JobId;

/// The routes of backups.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Backups", "Copies of everything, made while the service works, and what became of them.")
        .with(Method::GET, "/admin/backups", list, |it| {
            it.named("listBackups", "List backups, the newest first").answer(
                StatusCode::OK,
                Answer::json::<Page<Listed>>("Those of this instance, here and where they are sent to."),
            )
        })
        .with(Method::POST, "/admin/backups", create, |it| {
            it.named("createBackup", "Make a backup now")
                .answer(StatusCode::ACCEPTED, Answer::json::<Working>("The job that does it."))
                .problems(StatusCode::CONFLICT, &["backup_under_way"])
        })
        .with(Method::POST, "/admin/backups/{name}/verify", verify, |it| {
            name_parameter(it.named("verifyBackup", "Restore a backup as a test, beside the data"))
                .answer(StatusCode::ACCEPTED, Answer::json::<Working>("The job that does it."))
                .problems(StatusCode::CONFLICT, &["backup_under_way"])
        })
        .with(Method::GET, "/admin/backups/{name}", download, |it| {
            name_parameter(it.named("downloadBackup", "Fetch a backup's file")).answer(
                StatusCode::OK,
                Answer::text("application/octet-stream", "The file, as it lies in the folder of backups."),
            )
        })
}

fn name_parameter(it: Operation) -> Operation {
    it.about("The name is one of the list's.").problems(StatusCode::NOT_FOUND, &["not_found"])
}

/// A backup that is to be had.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Backup")]
struct Listed {
    name: String,
    /// When it was begun: what was written later is not in it.
    created_at: Timestamp,
    bytes: u64,
    encrypted: bool,
    /// The version of the database's schema.
    schema: i32,
    /// Goes up each time that this instance is restored.
    timeline: u32,
    /// Whether it is in the folder of backups on this machine.
    here: bool,
    /// Whether it is where backups are sent to.
    sent: bool,
}

/// What makes or verifies a backup.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BackupJob")]
struct Working {
    /// A job of the service's own, to be found among the jobs of all tenants.
    job_id: JobId,
}

async fn list(_: Operator, backups: web::Data<Backups>, _: NoQuery) -> Result<web::Json<Page<Listed>>, Problem> {
    let listed = backups
        .0
        .listed()
        .await
        .map_err(|error| Problem::new(StatusCode::BAD_GATEWAY, "backup_target_failed", error.to_string()))?;
    Ok(web::Json(Page::new(listed, None)))
}

async fn create(_: Operator, backups: web::Data<Backups>, _: NoQuery) -> Result<HttpResponse, Problem> {
    accepted(backups.0.submit(job::CREATE, &job::Input::default()).await?)
}

async fn verify(
    _: Operator,
    backups: web::Data<Backups>,
    name: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let name: Name = name.parse().map_err(|_| Problem::not_found("backup"))?;
    let known = backups.0.here().contains(&name) || backups.0.remote().await.is_ok_and(|names| names.contains(&name));
    if !known {
        return Err(Problem::not_found("backup"));
    }
    accepted(
        backups.0.submit(job::VERIFY, &job::Input { name: Some(name.to_string()), ..job::Input::default() }).await?,
    )
}

fn accepted(job: Option<JobId>) -> Result<HttpResponse, Problem> {
    let under_way = || {
        Problem::conflict("backup_under_way", "one is being made or verified already")
            .with_hint("GET /admin/jobs?tool=backup.create shows the job")
    };
    Ok(HttpResponse::Accepted().json(Working { job_id: job.ok_or_else(under_way)? }))
}

async fn download(
    _: Admin,
    backups: web::Data<Backups>,
    name: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    // Only what reads as a name comes near a path.
    let name: Name = name.parse().map_err(|_| Problem::not_found("backup"))?;
    let path = backups.0.local(&name.to_string());
    let (file, bytes) = web::block(move || open(&path))
        .await
        .map_err(Problem::internal)?
        .ok_or_else(|| Problem::not_found("backup"))?;
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((header::CONTENT_DISPOSITION, disposition))
        .body(SizedStream::new(bytes, pieces(file))))
}

fn open(path: &Path) -> Option<(std::fs::File, u64)> {
    let file = std::fs::File::open(path).ok()?;
    let bytes = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    Some((file, bytes))
}

/// A file, one piece after the other as the client takes them.
fn pieces(file: std::fs::File) -> impl stream::Stream<Item = Result<Bytes, actix_web::Error>> {
    use std::io::Read as _;
    const PIECE: usize = 1 << 18;
    stream::try_unfold(file, |mut file| async {
        web::block(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
        })
        .await?
        .map_err(actix_web::error::ErrorInternalServerError)
    })
}

impl Inner {
    async fn listed(&self) -> Result<Vec<Listed>, super::BackupError> {
        let now = self.clock.now();
        let mut listed: BTreeMap<_, Listed> = BTreeMap::new();
        let entry = |name: &Name, bytes: u64| Listed {
            name: name.to_string(),
            created_at: name.at,
            bytes,
            encrypted: name.encrypted,
            schema: name.schema,
            timeline: name.timeline,
            here: false,
            sent: false,
        };
        for name in self.here() {
            let bytes = std::fs::metadata(self.local(&name.to_string())).map_or(0, |found| found.len());
            listed
                .entry(std::cmp::Reverse((name.rank(now), name.to_string())))
                .or_insert_with(|| entry(&name, bytes))
                .here = true;
        }
        for (name, bytes) in self.remote_with_sizes().await? {
            listed
                .entry(std::cmp::Reverse((name.rank(now), name.to_string())))
                .or_insert_with(|| entry(&name, bytes))
                .sent = true;
        }
        Ok(listed.into_values().collect())
    }
}
