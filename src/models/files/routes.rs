//! `/v1/files`.

use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::types::{BATCH_OUTPUT, FileId, FileRow, KEEP, ListRequest, NewFile, PURPOSES};
use super::write::Bound;
use super::{CHUNK, Files};
use crate::auth::{Caller, ModelsUse};
use crate::clock::Timestamp;
use crate::http::openapi::Answer;
use crate::http::query::{NoQuery, Query};
use crate::http::{Problem, Routes};
use crate::models::form::{FormBody, PartReader};
use crate::models::list::{List, Paging};

/// Rows on a page at most, and when nobody says how many.
const MOST: usize = 10_000;
/// Bytes of a form beside its file.
const AROUND: u64 = 64 << 10;
/// Characters of a file's name.
const LONGEST_NAME: usize = 255;

/// The routes of files.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Files", "Files for language models, in OpenAI's format.")
        .with(Method::POST, "/v1/files", upload, |it| {
            it.named("createFile", "Upload a file")
                .about(
                    "The file arrives as it is sent and is there once it is whole. It is kept until it is deleted, or \
                     for as long as `expires_after` says.",
                )
                .form(json!({
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": { "type": "string", "format": "binary" },
                        "purpose": { "type": "string", "enum": PURPOSES.iter().filter(|it| **it != BATCH_OUTPUT).collect::<Vec<_>>() },
                        "expires_after[anchor]": { "const": "created_at" },
                        "expires_after[seconds]": { "type": "integer", "minimum": KEEP.start(), "maximum": KEEP.end() },
                    },
                }))
                .answer(StatusCode::OK, Answer::json::<FileView>("The file."))
                .problems(StatusCode::PAYLOAD_TOO_LARGE, &["files_full"])
                .problems(StatusCode::SERVICE_UNAVAILABLE, &["disk_nearly_full"])
        })
        .with(Method::GET, "/v1/files", list, |it| {
            Paging::describe(it.named("listFiles", "List your files"), MOST, MOST)
                .query("purpose", "Only those for this.", json!({ "type": "string" }))
                .query("order", "By their time: `desc`, when left out, or `asc`.", json!({ "enum": ["asc", "desc"] }))
                .answer(StatusCode::OK, Answer::json::<List<FileView>>("A page of the list."))
        })
        .with(Method::GET, "/v1/files/{id}", show, |it| {
            it.named("getFile", "Get what is known of a file")
                .answer(StatusCode::OK, Answer::json::<FileView>("The file."))
        })
        .with(Method::GET, "/v1/files/{id}/content", content, |it| {
            it.named("downloadFile", "Get what is in a file")
                .answer(StatusCode::OK, Answer::text("application/octet-stream", "The bytes that were uploaded."))
        })
        .with(Method::DELETE, "/v1/files/{id}", delete, |it| {
            it.named("deleteFile", "Delete a file")
                .answer(StatusCode::OK, Answer::json::<Gone>("It is gone."))
                .problems(StatusCode::CONFLICT, &["in_use"])
        })
        .with_openai_errors()
}

type Service = web::Data<Files>;

/// A file, as OpenAI shows it. Times are in seconds since 1970.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "File")]
struct FileView {
    id: String,
    #[schemars(extend("const" = "file"))]
    object: &'static str,
    bytes: u64,
    created_at: i64,
    /// Null when it is kept until it is deleted.
    expires_at: Option<i64>,
    filename: String,
    purpose: String,
    #[schemars(extend("const" = "processed"))]
    status: &'static str,
}

/// A moment as `OpenAI`'s interface writes it.
pub(in crate::models) fn seconds(moment: Timestamp) -> i64 {
    moment.micros() / 1_000_000
}

impl From<FileRow> for FileView {
    fn from(row: FileRow) -> Self {
        Self {
            id: row.id.to_string(),
            object: "file",
            bytes: row.bytes,
            created_at: seconds(row.created_at),
            expires_at: row.expires_at.map(seconds),
            filename: row.name,
            purpose: row.purpose,
            status: "processed",
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedFile")]
struct Gone {
    id: String,
    #[schemars(extend("const" = "file"))]
    object: &'static str,
    deleted: bool,
}

async fn upload(
    caller: Caller<ModelsUse>,
    files: Service,
    _: NoQuery,
    body: FormBody,
) -> Result<HttpResponse, Problem> {
    let mut form = body.read(files.0.limits.file_bytes.saturating_add(AROUND))?;
    let mut fields = Fields::default();
    let mut file = None;
    while let Some(mut part) = form.next().await? {
        if part.name != "file" {
            fields.take(&mut part).await?;
            continue;
        }
        if file.is_some() {
            return Err(Problem::invalid("/file", "given twice"));
        }
        let name = part.file_name.clone().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Problem::invalid("/file", "has no file name, so it is no file"))?;
        let name = name.chars().take(LONGEST_NAME).collect();
        // What it is for may follow it, so it is set at the end.
        let new = NewFile { tenant: caller.tenant.no, name, purpose: "", keep: None };
        let mut writer = files.begin(new, Bound::Client).await?;
        while let Some(piece) = part.piece().await? {
            writer.write(&piece).await?;
        }
        file = Some(writer);
    }
    let missing = || Problem::invalid("/file", "is missing");
    let writer = file.ok_or_else(missing)?;
    let (purpose, keep) = fields.finish()?;
    let row = writer.finish().await?.publish_as(purpose, keep).await?;
    Ok(HttpResponse::Ok().json(FileView::from(row)))
}

/// What a form says beside its file.
#[derive(Default)]
struct Fields {
    purpose: Option<&'static str>,
    anchor: Option<String>,
    seconds: Option<u64>,
}

impl Fields {
    async fn take(&mut self, part: &mut PartReader<'_>) -> Result<(), Problem> {
        match part.name.as_str() {
            "purpose" => {
                let text = part.text().await?;
                let known = PURPOSES.into_iter().find(|known| *known == text && *known != BATCH_OUTPUT);
                let wrong = || {
                    let all: Vec<_> = PURPOSES.into_iter().filter(|known| *known != BATCH_OUTPUT).collect();
                    Problem::invalid("/purpose", format!("{text:?} is none of {}", all.join(", ")))
                };
                self.purpose = Some(known.ok_or_else(wrong)?);
            }
            "expires_after[anchor]" => self.anchor = Some(part.text().await?),
            "expires_after[seconds]" => {
                let seconds = part.text().await?.parse().ok().filter(|seconds| KEEP.contains(seconds));
                let wrong = || {
                    let detail = format!("must be a whole number from {} to {}", KEEP.start(), KEEP.end());
                    Problem::invalid("/expires_after/seconds", detail)
                };
                self.seconds = Some(seconds.ok_or_else(wrong)?);
            }
            // What others understand may be sent here too.
            _ => while part.piece().await?.is_some() {},
        }
        Ok(())
    }

    fn finish(self) -> Result<(&'static str, Option<std::time::Duration>), Problem> {
        let purpose = self.purpose.ok_or_else(|| Problem::invalid("/purpose", "is missing"))?;
        match (self.anchor.as_deref(), self.seconds) {
            (None | Some("created_at"), None) => Ok((purpose, None)),
            (None | Some("created_at"), Some(seconds)) => Ok((purpose, Some(std::time::Duration::from_secs(seconds)))),
            (Some(_), _) => Err(Problem::invalid("/expires_after/anchor", "must be created_at")),
        }
    }
}

async fn list(
    caller: Caller<ModelsUse>,
    files: Service,
    request: HttpRequest,
) -> Result<web::Json<List<FileView>>, Problem> {
    let mut query = Query::of(&request)?;
    let paging = Paging::take(&mut query, FileId::parse, MOST, MOST)?;
    let newest_first = match query.text("order").as_deref() {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(_) => return Err(Problem::invalid("?order", "must be asc or desc")),
    };
    let purpose = query.text("purpose");
    query.finish(&["after", "limit", "order", "purpose"])?;
    let wanted = ListRequest { after: paging.after, limit: paging.limit + 1, newest_first, purpose };
    let rows = files.list(caller.tenant.no, wanted).await?;
    Ok(web::Json(List::from_one_more(rows, paging.limit, |row| row.id.to_string())))
}

fn id(text: &str) -> Result<FileId, Problem> {
    FileId::parse(text).ok_or_else(|| Problem::not_found("file"))
}

async fn found(files: &Files, tenant: i64, text: &str) -> Result<FileRow, Problem> {
    files.get(tenant, id(text)?).await?.ok_or_else(|| Problem::not_found("file"))
}

async fn show(
    caller: Caller<ModelsUse>,
    files: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<FileView>, Problem> {
    Ok(web::Json(found(&files, caller.tenant.no, &id).await?.into()))
}

async fn delete(
    caller: Caller<ModelsUse>,
    files: Service,
    text: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<Gone>, Problem> {
    files.delete(caller.tenant.no, id(&text)?).await?;
    Ok(web::Json(Gone { id: text.into_inner(), object: "file", deleted: true }))
}

async fn content(
    caller: Caller<ModelsUse>,
    files: Service,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let row = found(&files, caller.tenant.no, &id).await?;
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | ' ');
    let name: String = row.name.chars().map(|character| if plain(character) { character } else { '_' }).collect();
    let body = SizedStream::new(row.bytes, pieces(files.get_ref().clone(), &row));
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .body(body))
}

/// A file's pieces as the client takes them. One that is deleted meanwhile breaks
/// off, which the client sees by its length.
fn pieces(files: Files, row: &FileRow) -> impl stream::Stream<Item = Result<Bytes, actix_web::Error>> + use<> {
    let (no, count) = (row.id.no(), row.bytes.div_ceil(CHUNK as u64));
    stream::try_unfold(0, move |seq| {
        let files = files.clone();
        async move {
            if seq >= count {
                return Ok(None);
            }
            let piece = files.chunk(no, seq).await.map_err(Problem::from)?;
            let piece = piece.ok_or_else(|| Problem::not_found("file"))?;
            Ok(Some((piece, seq + 1)))
        }
    })
}
