//! `/admin/tenants/{id}/origins`: web pages that may call with a tenant's keys.

use actix_web::http::{Method, StatusCode};
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Tenants, sql};
use crate::auth::Admin;
use crate::db::{self, Tx};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};
use crate::net::WebOrigin;

/// Origins that a tenant may have.
const MOST: usize = 100;

/// Adds the routes of this file.
pub(super) fn routes(routes: Routes) -> Routes {
    let origins = || Answer::json::<OriginsView>("The whole list, in order.");
    routes
        .with(Method::GET, "/admin/tenants/{id}/origins", get, |it| {
            it.named("getOrigins", "List the web pages that may call with a tenant's keys")
                .answer(StatusCode::OK, origins())
        })
        .with(Method::PUT, "/admin/tenants/{id}/origins", put, |it| {
            it.named("setOrigins", "Set the web pages that may call with a tenant's keys")
                .about("Replaces the whole list. It counts from the answer on.")
                .example("one", json!({ "origins": ["https://app.example.com"] }))
                .answer(StatusCode::OK, origins())
        })
}

type Service = web::Data<Tenants>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetOrigins")]
struct OriginsBody {
    /// Scheme, host and port of each, without a path or a wildcard; plain HTTP
    /// for localhost only.
    #[schemars(length(max = MOST))]
    origins: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Origins")]
struct OriginsView {
    /// As browsers send them.
    origins: Vec<String>,
}

impl OriginsView {
    fn of(origins: &[WebOrigin]) -> web::Json<Self> {
        web::Json(Self { origins: origins.iter().map(WebOrigin::to_string).collect() })
    }
}

async fn get(_: Admin, tenants: Service, id: web::Path<String>, _: NoQuery) -> Result<web::Json<OriginsView>, Problem> {
    let id = id.into_inner();
    let origins = tenants.db.read(move |tx| {
        let Some(tenant) = sql::tenant_of(tx, &id)? else { return Ok(None) };
        sql::origins(tx, tenant.no).map(Some)
    });
    let origins = origins.await?.ok_or_else(|| Problem::not_found("tenant"))?;
    Ok(OriginsView::of(&origins))
}

async fn put(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    _: NoQuery,
    body: AdminJson<OriginsBody>,
) -> Result<web::Json<OriginsView>, Problem> {
    let origins = checked(&body.value.origins)?;
    let found = tenants.set_origins(id.into_inner(), origins.clone()).await?;
    if found { Ok(OriginsView::of(&origins)) } else { Err(Problem::not_found("tenant")) }
}

/// In order, and each once.
fn checked(origins: &[String]) -> Result<Vec<WebOrigin>, Problem> {
    if origins.len() > MOST {
        return Err(Problem::invalid("/origins", format!("may have at most {MOST} entries")));
    }
    let read = |(place, text): (usize, &String)| {
        WebOrigin::parse(text).map_err(|fault| Problem::invalid(format!("/origins/{place}"), fault))
    };
    let mut origins = origins.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    origins.sort();
    origins.dedup();
    Ok(origins)
}

impl Tenants {
    /// Sets the pages that may call, which counts once this returns; whether
    /// there is such a tenant.
    async fn set_origins(&self, id: String, origins: Vec<WebOrigin>) -> Result<bool, db::Error> {
        let cors = self.auth.cors().clone();
        let to_write = origins.clone();
        let work = move |tx: &Tx<'_>| {
            let Some(tenant) = sql::tenant_of(tx, &id)? else { return Ok(None) };
            sql::set_origins(tx, tenant.no, &to_write)?;
            Ok(Some(tenant.no))
        };
        let after = move |tenant: &Option<i64>| {
            if let Some(tenant) = *tenant {
                cors.set(tenant, origins);
            }
        };
        Ok(self.db.write_then(work, after).await?.is_some())
    }

    /// Reads the lists at start.
    pub(super) async fn load_origins(&self) -> Result<(), db::Error> {
        for (tenant, origins) in self.db.read(sql::all_origins).await? {
            self.auth.cors().set(tenant, origins);
        }
        Ok(())
    }
}
