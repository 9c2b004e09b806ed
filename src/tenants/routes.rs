//! `/admin/tenants` and the keys below them.

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::types::{Cohort, KeyRow, Status, TenantRow};
use super::{Created, NewKey, Tenants, Update, sql};
use crate::auth::{Admin, ApiKey, Scopes};
use crate::clock::Timestamp;
use crate::http::idempotency::{ADMIN_SCOPE, IdempotencyKey, Stored, reused};
use crate::http::page::{Page, PageRequest};
use crate::http::query::{NoQuery, Query};
use crate::http::{Json, Problem, Routes};

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::POST, "/admin/tenants", create)
        .add(Method::GET, "/admin/tenants", list)
        .add(Method::GET, "/admin/tenants/{id}", get)
        .add(Method::PATCH, "/admin/tenants/{id}", update)
        .add(Method::DELETE, "/admin/tenants/{id}", delete)
        .add(Method::POST, "/admin/tenants/{id}/keys", create_key)
        .add(Method::GET, "/admin/tenants/{id}/keys", list_keys)
        .add(Method::GET, "/admin/tenants/{id}/keys/{key_id}", get_key)
        .add(Method::POST, "/admin/tenants/{id}/keys/{key_id}/revoke", revoke_key)
}

type Service = web::Data<Tenants>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    name: String,
}

#[derive(Serialize)]
struct TenantView {
    tenant_id: String,
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
    body: Json<CreateBody>,
) -> Result<HttpResponse, Problem> {
    let name = checked_name(&body.value.name)?;
    let key = IdempotencyKey::of(&request, ADMIN_SCOPE, &body.bytes)?;
    let answer = |row: &TenantRow| stored(&TenantView::from(row.clone()));
    match tenants.create(name, key, answer).await? {
        Created::New(row) => {
            let location = format!("/admin/tenants/{}", row.id);
            let created =
                HttpResponse::Created().insert_header((header::LOCATION, location)).json(TenantView::from(row));
            Ok(created)
        }
        Created::Replayed(stored) => Ok(replay(&stored)),
        Created::KeyReused => Err(reused()),
    }
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    name: Option<String>,
    status: Option<Status>,
    cohort: Option<Cohort>,
}

async fn update(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    _: NoQuery,
    body: Json<UpdateBody>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateKeyBody {
    name: String,
    scopes: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    #[serde(default)]
    test: bool,
    allowed_ips: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize)]
struct KeyView {
    key_id: String,
    /// Only in the answer that makes the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    name: String,
    prefix: String,
    test: bool,
    scopes: Vec<String>,
    status: &'static str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

impl KeyView {
    fn new(row: &KeyRow, status: &'static str, last_used_at: Option<Timestamp>) -> Self {
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
        }
    }

    fn of(tenants: &Tenants, row: &KeyRow) -> Self {
        Self::new(row, tenants.key_state(row), tenants.last_used(row))
    }
}

async fn create_key(
    _: Admin,
    tenants: Service,
    id: web::Path<String>,
    request: HttpRequest,
    _: NoQuery,
    body: Json<CreateKeyBody>,
) -> Result<HttpResponse, Problem> {
    let new = checked_key(body.value, tenants.clock.now())?;
    let idempotency = IdempotencyKey::of(&request, ADMIN_SCOPE, &body.bytes)?;
    // What is kept for a replay must not hold the secret.
    let answer = |row: &KeyRow| stored(&KeyView::new(row, "active", None));
    let created = tenants.create_key(id.into_inner(), new, idempotency, answer).await?;
    let (created, api_key): (_, ApiKey) = created.ok_or_else(|| Problem::not_found("tenant"))?;
    match created {
        Created::New(row) => {
            let view = KeyView { api_key: Some(api_key.reveal().to_owned()), ..KeyView::of(&tenants, &row) };
            Ok(HttpResponse::Created().json(view))
        }
        Created::Replayed(stored) => Ok(replay(&stored)),
        Created::KeyReused => Err(reused()),
    }
}

fn checked_key(body: CreateKeyBody, now: Timestamp) -> Result<NewKey, Problem> {
    if body.allowed_ips.is_some() {
        return Err(Problem::not_available("/allowed_ips", "address lists for keys"));
    }
    if body.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::invalid("/expires_at", format!("lies in the past; it is {now}")));
    }
    let scopes = body.scopes.map_or_else(|| Ok(Scopes::all()), Scopes::named);
    Ok(NewKey {
        name: checked_name(&body.name)?,
        scopes: scopes.map_err(|fault| Problem::invalid("/scopes", fault))?,
        expires_at: body.expires_at,
        test: body.test,
    })
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

fn checked_name(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let fault = if name.is_empty() {
        "must not be empty"
    } else if name.chars().count() > 200 {
        "must be at most 200 characters"
    } else if name.chars().any(char::is_control) {
        "must not hold control characters"
    } else {
        return Ok(name.to_owned());
    };
    Err(Problem::invalid("/name", fault))
}

fn stored(view: &impl Serialize) -> Stored {
    Stored { status: StatusCode::CREATED.as_u16(), body: serde_json::to_string(view).unwrap_or_default() }
}

fn replay(stored: &Stored) -> HttpResponse {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::CREATED);
    HttpResponse::build(status)
        .insert_header(("Idempotency-Replayed", "true"))
        .content_type("application/json")
        .body(stored.body.clone())
}
