//! `GET /admin/status`

use actix_web::http::{Method, StatusCode};
use actix_web::web;

use super::{Report, Status};
use crate::auth::Admin;
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{Problem, Routes};

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Status", "How the service is, for the administrator.").with(
        Method::GET,
        "/admin/status",
        status,
        |it| {
            it.named("getStatus", "How the service is")
                .about("For people and their scripts; `/ready` and `/metrics` are for machines.")
                .answer(StatusCode::OK, Answer::json::<Report>("The service, and what is not as it should be."))
        },
    )
}

async fn status(_: Admin, status: web::Data<Status>, _: NoQuery) -> Result<web::Json<Report>, Problem> {
    Ok(web::Json(status.report().await?))
}
