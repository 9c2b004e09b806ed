//! `/admin/tenants` and the keys below them.

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::types::{Cohort, KeyRow, Status, TenantRow};
use super::{NewKey, Tenants, Update, origins, quota, rotate, sql, usage};
use crate::auth::{Admin, ApiKey, Scopes};
use crate::clock::Timestamp;
use crate::http::idempotency::{ADMIN_SCOPE, Created, IdempotencyKey, Stored, replay, reused};
use crate::http::openapi::Answer;
use crate::http::page::{Page, PageRequest};
use crate::http::query::{NoQuery, Query};
use crate::http::{AdminJson, Problem, Routes};
use crate::net::Network;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    let tenant = || Answer::json::<TenantView>("The tenant.");
    let key = || Answer::json::<KeyView>("The key, without its secret.");
    let routes = Routes::of("Tenants", "Tenants and their API keys, for the administrator.")
        .with(Method::POST, "/admin/tenants", create, |it| {
            it.named("createTenant", "Create a tenant")
                .example("named", json!({ "name": "Acme" }))
                .answer(StatusCode::CREATED, tenant().header("Location"))
                .idempotent()
        })
        .with(Method::GET, "/admin/tenants", list, |it| {
            it.named("listTenants", "List the tenants")
                .pages()
                .answer(StatusCode::OK, Answer::json::<Page<TenantView>>("Tenants, newest first."))
        })
        .with(Method::GET, "/admin/tenants/{id}", get, |it| {
            it.named("getTenant", "Get a tenant").answer(StatusCode::OK, tenant())
        })
        .with(Method::PATCH, "/admin/tenants/{id}", update, |it| {
            it.named("updateTenant", "Rename, suspend or resume a tenant")
                .about("The keys of a suspended tenant get 403 and its waiting jobs stay; running ones go on.")
                .example("suspended", json!({ "status": "suspended" }))
                .answer(StatusCode::OK, tenant())
        })
        .with(Method::DELETE, "/admin/tenants/{id}", delete, |it| {
            it.named("deleteTenant", "Delete a tenant with everything it has")
                .about("Its keys stop working at once and running jobs are told to stop; its rows are cleared away after the answer.")
                .answer(StatusCode::NO_CONTENT, Answer::empty("It is gone."))
        })
        .with(Method::POST, "/admin/tenants/{id}/keys", create_key, |it| {
            it.named("createKey", "Create an API key")
                .about("`api_key` is in this answer only; what is kept proves a key and cannot give it back. \
                        A repeat with the same `Idempotency-Key` is answered without it.")
                .example("named", json!({ "name": "backend" }))
                .example("narrow", json!({ "name": "dashboard", "scopes": ["jobs:read"], "expires_at": "2100-01-01T00:00:00Z" }))
                .answer(StatusCode::CREATED, Answer::json::<KeyView>("The key with its secret."))
                .idempotent()
        })
        .with(Method::GET, "/admin/tenants/{id}/keys", list_keys, |it| {
            it.named("listKeys", "List the keys of a tenant")
                .pages()
                .answer(StatusCode::OK, Answer::json::<Page<KeyView>>("Keys, newest first."))
        })
        .with(Method::GET, "/admin/tenants/{id}/keys/{key_id}", get_key, |it| {
            it.named("getKey", "Get a key").answer(StatusCode::OK, key())
        })
        .with(Method::POST, "/admin/tenants/{id}/keys/{key_id}/revoke", revoke_key, |it| {
            it.named("revokeKey", "Revoke a key")
                .about("When this is answered the key no longer works.")
                .answer(StatusCode::OK, key())
        });
    origins::routes(quota::routes(rotate::routes(routes))).and(usage::routes())
}

/// Networks that a key may be bound to.
const MOST_NETWORKS: usize = 100;

type Service = web::Data<Tenants>;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateTenant")]
struct CreateBody {
    /// For people.
    #[schemars(with = "Name")]
    name: String,
}

/// What [`checked_name`] takes; white space around it does not count.
#[derive(JsonSchema)]
#[schemars(inline)]
struct Name(
    #[schemars(length(min = 1, max = 200))]
    #[expect(dead_code, reason = "only its schema is used")]
    String,
);

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
struct TenantView {
    tenant_id: String,
    /// For people.
    name: String,
    status: Status,
    cohort: Cohort,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<TenantRow> for TenantView {
    fn from(row: TenantRow) -> Self {
        Self {
            tenant_id: row.id,
            name: row.name,
            status: row.status,
            cohort: row.cohort,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

async fn create(
    _: Admin,
    tenants: Service,
    request: HttpRequest,
    _: NoQuery,
    body: AdminJson<CreateBody>,
) -> Result<HttpResponse, Problem> {
    let name = checked_name(&body.value.name)?;
    let key = IdempotencyKey::of(&request, ADMIN_SCOPE, &body.bytes)?;
    let answer = |row: &TenantRow| stored(&TenantView::from(row.clone()));
    match tenants.create(name, key, answer).await? {
        Created::New(row) => {
            let created = HttpResponse::Created().insert_header(location(&row.id)).json(TenantView::from(row));
            Ok(created)
        }
        Created::Replayed(stored) => {
            let TenantId { tenant_id } = serde_json::from_str(&stored.body).map_err(Problem::internal)?;
            Ok(replay(&stored).insert_header(location(&tenant_id)).body(stored.body))
        }
        Created::KeyReused => Err(reused()),
    }
}

/// The tenant that a kept answer speaks of.
#[derive(Deserialize)]
struct TenantId {
    tenant_id: String,
}

fn location(tenant_id: &str) -> (header::HeaderName, String) {
    (header::LOCATION, format!("/admin/tenants/{tenant_id}"))
}

async fn list(_: Admin, tenants: Service, request: HttpRequest) -> Result<web::Json<Page<TenantView>>, Problem> {
    let page = page_request(&request)?;
    let rows = tenants.db.read(move |tx| sql::list(tx, page.after, page.limit + 1)).await?;
    Ok(web::Json(Page::from_one_more(rows, page.limit, |row| row.no).map(TenantView::from)))
}

async fn get(_: Admin, tenants: Service, id: web::Path<String>, _: NoQuery) -> Result<web::Json<TenantView>, Problem> {
    let id = id.into_inner();
    let row = tenants.db.read(move |tx| sql::get(tx, &id)).await?;
    row.map(|row| web::Json(row.into())).ok_or_else(|| Problem::not_found("tenant"))
}

/// What is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UpdateTenant")]
struct UpdateBody {
    /// For people.
    #[schemars(with = "Option<Name>")]
    name: Option<String>,
    status: Option<Status>,
    cohort: Option<Cohort>,
}

async fn update(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    _: NoQuery,
    body: AdminJson<UpdateBody>,
) -> Result<web::Json<TenantView>, Problem> {
    let UpdateBody { name, status, cohort } = body.value;
    let name = name.as_deref().map(checked_name).transpose()?;
    let row = tenants.update(id.into_inner(), Update { name, status, cohort }).await?;
    row.map(|row| web::Json(row.into())).ok_or_else(|| Problem::not_found("tenant"))
}

async fn delete(_: Admin, tenants: Service, id: web::Path<String>, _: NoQuery) -> Result<HttpResponse, Problem> {
    if tenants.delete(id.into_inner()).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found("tenant"))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CreateKey")]
struct CreateKeyBody {
    /// For people.
    #[schemars(with = "Name")]
    name: String,
    /// What it may do; `*` is everything, also what later versions add. Left
    /// out: everything.
    #[schemars(with = "Option<Vec<crate::auth::ScopeName>>", length(min = 1))]
    scopes: Option<Vec<String>>,
    /// When it stops working; must lie in the future. Left out: never.
    expires_at: Option<Timestamp>,
    /// Whether it begins with `agk_test_`; it has the same rights.
    #[serde(default)]
    test: bool,
    /// Addresses and networks from which it counts, such as `192.0.2.7`,
    /// `10.0.0.0/8` or `2001:db8::/32`. Left out: from everywhere.
    #[schemars(length(min = 1, max = MOST_NETWORKS))]
    allowed_ips: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub(super) struct KeyView {
    key_id: String,
    /// Only in the answer that makes the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// For people.
    name: String,
    /// How the key's text begins.
    prefix: String,
    test: bool,
    /// What it may do.
    scopes: Vec<String>,
    /// `unusable`: made with another key-hash secret than the service has now.
    #[schemars(extend("enum" = ["active", "expired", "revoked", "unusable"]))]
    status: &'static str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// To within some seconds.
    last_used_at: Option<Timestamp>,
    /// Addresses and networks from which it counts; null for everywhere.
    allowed_ips: Option<Vec<String>>,
    /// The `key_id` of the key whose place it took.
    rotated_from: Option<String>,
    /// The `key_id` of the key that took its place.
    replaced_by: Option<String>,
}

impl KeyView {
    pub(super) fn new(row: &KeyRow, status: &'static str, last_used_at: Option<Timestamp>) -> Self {
        Self {
            key_id: row.id.clone(),
            api_key: None,
            name: row.name.clone(),
            prefix: crate::auth::key_prefix(&row.id, row.test),
            test: row.test,
            scopes: row.scopes.names().to_vec(),
            status,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at,
            allowed_ips: (!row.allowed_ips.is_empty())
                .then(|| row.allowed_ips.iter().map(Network::to_string).collect()),
            rotated_from: row.rotated_from.clone(),
            replaced_by: row.replaced_by.clone(),
        }
    }

    pub(super) fn of(tenants: &Tenants, row: &KeyRow) -> Self {
        Self::new(row, tenants.key_state(row), tenants.last_used(row))
    }

    /// For the one answer that shows it.
    pub(super) fn with_secret(self, key: &ApiKey) -> Self {
        Self { api_key: Some(key.reveal().to_owned()), ..self }
    }
}

async fn create_key(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    request: HttpRequest,
    _: NoQuery,
    body: AdminJson<CreateKeyBody>,
) -> Result<HttpResponse, Problem> {
    let new = checked_key(body.value, tenants.clock.now())?;
    let idempotency = IdempotencyKey::of(&request, ADMIN_SCOPE, &body.bytes)?;
    // What is kept for a replay must not hold the secret.
    let answer = |row: &KeyRow| stored(&KeyView::new(row, "active", None));
    let created = tenants.create_key(id.into_inner(), new, idempotency, answer).await?;
    let (created, api_key): (_, ApiKey) = created.ok_or_else(|| Problem::not_found("tenant"))?;
    match created {
        Created::New(row) => Ok(HttpResponse::Created().json(KeyView::of(&tenants, &row).with_secret(&api_key))),
        Created::Replayed(stored) => Ok(replay(&stored).body(stored.body)),
        Created::KeyReused => Err(reused()),
    }
}

fn checked_key(body: CreateKeyBody, now: Timestamp) -> Result<NewKey, Problem> {
    check_expiry(body.expires_at, now)?;
    let scopes = body.scopes.map_or_else(|| Ok(Scopes::all()), Scopes::named);
    Ok(NewKey {
        name: checked_name(&body.name)?,
        scopes: scopes.map_err(|fault| Problem::invalid("/scopes", fault))?,
        expires_at: body.expires_at,
        test: body.test,
        allowed_ips: body.allowed_ips.as_deref().map_or_else(|| Ok(Vec::new()), checked_networks)?,
        rotated_from: None,
    })
}

pub(super) fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Problem> {
    match expires_at {
        Some(end) if end <= now => Err(Problem::invalid("/expires_at", format!("lies in the past; it is {now}"))),
        _ => Ok(()),
    }
}

fn checked_networks(networks: &[String]) -> Result<Vec<Network>, Problem> {
    if networks.is_empty() || networks.len() > MOST_NETWORKS {
        let fault = format!("must have 1 to {MOST_NETWORKS} entries, or be left out for all addresses");
        return Err(Problem::invalid("/allowed_ips", fault));
    }
    let read = |(place, text): (usize, &String)| {
        Network::parse(text).map_err(|fault| Problem::invalid(format!("/allowed_ips/{place}"), fault))
    };
    networks.iter().enumerate().map(read).collect()
}

async fn list_keys(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<web::Json<Page<KeyView>>, Problem> {
    let page = page_request(&request)?;
    let id = id.into_inner();
    let rows = tenants.db.read(move |tx| {
        let Some(tenant) = sql::tenant_of(tx, &id)? else { return Ok(None) };
        sql::list_keys(tx, tenant.no, page.after, page.limit + 1).map(Some)
    });
    let rows = rows.await?.ok_or_else(|| Problem::not_found("tenant"))?;
    let page = Page::from_one_more(rows, page.limit, |row| row.no);
    Ok(web::Json(page.map(|row| KeyView::of(&tenants, &row))))
}

async fn get_key(
    _: Admin,
    tenants: Service,
    ids: web::Path<(String, String)>,
    _: NoQuery,
) -> Result<web::Json<KeyView>, Problem> {
    let (tenant, key) = ids.into_inner();
    let row = tenants.db.read(move |tx| sql::get_key(tx, &tenant, &key)).await?;
    row.map(|row| web::Json(KeyView::of(&tenants, &row))).ok_or_else(|| Problem::not_found("key"))
}

async fn revoke_key(
    _: Admin,
    tenants: Service,
    ids: web::Path<(String, String)>,
    _: NoQuery,
) -> Result<web::Json<KeyView>, Problem> {
    let (tenant, key) = ids.into_inner();
    let row = tenants.revoke_key(tenant, key).await?;
    row.map(|row| web::Json(KeyView::of(&tenants, &row))).ok_or_else(|| Problem::not_found("key"))
}

fn page_request(request: &HttpRequest) -> Result<PageRequest, Problem> {
    let mut query = Query::of(request)?;
    let page = PageRequest::take(&mut query)?;
    query.finish(&["limit", "cursor"])?;
    Ok(page)
}

pub(super) fn checked_name(name: &str) -> Result<String, Problem> {
    let long = name.chars().count() > 200;
    let name = name.trim();
    let fault = if name.is_empty() {
        "must not be empty"
    } else if long {
        "must be at most 200 characters"
    } else if name.chars().any(char::is_control) {
        "must not hold control characters"
    } else {
        return Ok(name.to_owned());
    };
    Err(Problem::invalid("/name", fault))
}

pub(super) fn stored(view: &impl Serialize) -> Stored {
    Stored { status: StatusCode::CREATED.as_u16(), body: serde_json::to_string(view).unwrap_or_default() }
}
