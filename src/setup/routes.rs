//! `POST /setup`, and its token for the administrator of the machine.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Setup, Wanted, already_set_up};
use crate::auth::{Admin, OnThisMachine};
use crate::clock::Timestamp;
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};
use crate::users::{Password, UserName};

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Setup", "The first user of a fresh service.")
        .with(Method::POST, "/setup", complete, |it| {
            it.named("completeSetup", "Make the first user")
                .about(
                    "From the service's own machine only, and through no proxy. `token` is what the file \
                        `setup-token` holds; it counts once and for an hour. `key` is in this answer only.",
                )
                .answer(StatusCode::CREATED, Answer::json::<DoneView>("The service is set up."))
                .problems(StatusCode::CONFLICT, &["already_set_up"])
                .problems(StatusCode::TOO_MANY_REQUESTS, &["too_many_logins"])
        })
        .with(Method::POST, "/admin/setup-token", renew, |it| {
            it.named("renewSetupToken", "A new setup token in the place of the old one")
                .answer(StatusCode::CREATED, Answer::json::<TokenView>("The token."))
                .problems(StatusCode::CONFLICT, &["already_set_up"])
        })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CompleteSetup")]
struct SetupBody {
    /// What the file `setup-token` holds.
    token: String,
    /// The first user, who may do everything.
    admin: FirstUser,
    /// A first tenant with a key. Left out: none.
    tenant: Option<FirstTenantBody>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FirstUser {
    /// What they sign in with, such as `alice` or `alice@example.com`.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// At least 12 characters.
    password: Password,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FirstTenant")]
struct FirstTenantBody {
    /// For people.
    #[schemars(length(min = 1, max = 200))]
    name: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SetupDone")]
struct DoneView {
    /// The first user's name.
    admin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// The tenant's key; only in this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SetupToken")]
struct TokenView {
    token: String,
    expires_at: Timestamp,
}

async fn complete(
    _: OnThisMachine,
    setup: web::Data<Setup>,
    _: NoQuery,
    body: AdminJson<SetupBody>,
) -> Result<HttpResponse, Problem> {
    let SetupBody { token, admin, tenant } = body.value;
    if setup.users.any() {
        return Err(already_set_up());
    }
    setup.check(&token)?;
    let name = UserName::read(&admin.name).map_err(|fault| Problem::invalid("/admin/name", fault))?;
    admin.password.check(name.as_str()).map_err(|fault| Problem::invalid("/admin/password", fault))?;
    let tenant = tenant.map(|tenant| setup.tenants.prepare_first(&tenant.name)).transpose();
    let tenant = tenant.map_err(|problem| problem.within("/tenant"))?;
    let password = setup.users.hash(admin.password).await?;
    let done = setup.complete(Wanted { name, password, tenant }).await?;
    let (tenant_id, key) = done.tenant.unzip();
    let key = key.map(|key| key.reveal().to_owned());
    Ok(HttpResponse::Created().insert_header(("Cache-Control", "no-store")).json(DoneView {
        admin: done.user.name,
        tenant_id,
        key,
    }))
}

async fn renew(_: Admin, setup: web::Data<Setup>, _: NoQuery) -> Result<HttpResponse, Problem> {
    if setup.users.any() {
        return Err(already_set_up());
    }
    let (token, expires_at) = setup.renew();
    Ok(HttpResponse::Created().insert_header(("Cache-Control", "no-store")).json(TokenView { token, expires_at }))
}
