//! The interface told to those who use it: `/openapi.json` for programs,
//! `/docs` for people, and `/`, which leads to them. The documents are made of the
//! route table, once, when somebody first asks; the page loads nothing from another host.

mod html;
mod page;
mod schema;

use std::sync::{Arc, OnceLock};

use actix_web::http::header::{self, ETag, EntityTag};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::http::header::{none_match, prefers};
use crate::http::openapi::{Answer, Operation};
use crate::http::{Open, Routes};

const DOCS: &str = "/docs";
const OPENAPI: &str = "/openapi.json";

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Documents", "This interface, told to programs and to people.")
        .with(Method::GET, "/", root, |it| {
            it.named("getRoot", "Find the documents")
                .about(
                    "Leads browsers to `/docs`: clients whose `Accept` prefers `text/html` to `application/json`. Others \
                     are told where the documents are.",
                )
                .answer(StatusCode::OK, Answer::json::<Root>("What answers here, and where its documents are."))
                .answer(StatusCode::SEE_OTHER, Answer::empty("The page for people.").header("Location"))
        })
        .with(Method::GET, OPENAPI, openapi, |it| {
            let answer = Answer::json::<serde_json::Value>("The document.");
            file(it.named("getOpenApi", "This interface in OpenAPI 3.1"), answer)
        })
        .with(Method::GET, DOCS, page, |it| {
            asset(it.named("getDocs", "This interface as a page for people"), "text/html")
        })
        .with(Method::GET, "/docs/style.css", style, |it| {
            asset(it.named("getDocsStyle", "How that page looks"), "text/css")
        })
        .with(Method::GET, "/docs/script.js", script, |it| {
            asset(it.named("getDocsScript", "The filter of that page"), "text/javascript")
        })
}

fn asset(operation: Operation, media: &'static str) -> Operation {
    file(operation, Answer::text(media, "The file."))
}

fn file(operation: Operation, answer: Answer) -> Operation {
    operation
        .header("If-None-Match", "The `ETag` of the file that the client has.", json!({ "type": "string" }))
        .answer(StatusCode::OK, answer.header("ETag").header("Cache-Control"))
        .answer(StatusCode::NOT_MODIFIED, Answer::empty("The client has it already.").header("ETag"))
}

/// The documents. One per process, behind an `Arc`.
pub struct Docs {
    routes: Arc<Routes>,
    made: OnceLock<Made>,
}

struct Made {
    openapi: File,
    page: File,
    style: File,
    script: File,
}

/// What is sent, and the tag by which a client knows that it has it already.
struct File {
    media: &'static str,
    bytes: Bytes,
    tag: EntityTag,
}

impl Docs {
    /// Documents of these routes.
    #[must_use]
    pub fn new(routes: Arc<Routes>) -> Self {
        Self { routes, made: OnceLock::new() }
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let document = self.routes.document();
            let json = serde_json::to_vec(&document).unwrap_or_default();
            Made {
                openapi: File::new("application/json", json.into()),
                page: File::new("text/html; charset=utf-8", page::render(&document).into()),
                style: File::new(
                    "text/css; charset=utf-8",
                    Bytes::from_static(include_bytes!("../../assets/docs/style.css")),
                ),
                script: File::new(
                    "text/javascript; charset=utf-8",
                    Bytes::from_static(include_bytes!("../../assets/docs/script.js")),
                ),
            }
        })
    }
}

/// What the page may load and do: its own style and script, nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl File {
    fn new(media: &'static str, bytes: Bytes) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let (first, _) = digest.as_ref().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        Self { media, bytes, tag: EntityTag::new_strong(format!("{:032x}", u128::from_be_bytes(*first))) }
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let known = none_match(request.headers(), self.tag.tag());
        let mut response = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
        response
            .insert_header(ETag(self.tag.clone()))
            // Kept, but asked after each time: an upgrade shows at once.
            .insert_header((header::CACHE_CONTROL, "no-cache"));
        if known {
            return response.finish();
        }
        response
            .content_type(self.media)
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .body(self.bytes.clone())
    }
}

type Service = web::Data<Docs>;

/// What answers here, and where its documents are.
#[derive(Serialize, JsonSchema)]
struct Root {
    #[schemars(extend("const" = "agentd"))]
    name: &'static str,
    version: &'static str,
    /// The path of the page for people.
    docs: &'static str,
    /// The path of the OpenAPI document.
    openapi: &'static str,
}

async fn root(_: Open, request: HttpRequest) -> HttpResponse {
    let for_people = prefers(request.headers(), "text/html", "application/json");
    let mut answer = if for_people { HttpResponse::SeeOther() } else { HttpResponse::Ok() };
    answer.insert_header((header::VARY, "Accept")).insert_header((header::CACHE_CONTROL, "no-cache"));
    if for_people {
        return answer.insert_header((header::LOCATION, DOCS)).finish();
    }
    answer.json(Root { name: "agentd", version: env!("CARGO_PKG_VERSION"), docs: DOCS, openapi: OPENAPI })
}

async fn openapi(_: Open, docs: Service, request: HttpRequest) -> HttpResponse {
    docs.made().openapi.answer(&request)
}

async fn page(_: Open, docs: Service, request: HttpRequest) -> HttpResponse {
    docs.made().page.answer(&request)
}

async fn style(_: Open, docs: Service, request: HttpRequest) -> HttpResponse {
    docs.made().style.answer(&request)
}

async fn script(_: Open, docs: Service, request: HttpRequest) -> HttpResponse {
    docs.made().script.answer(&request)
}
