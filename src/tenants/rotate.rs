//! `POST /admin/tenants/{id}/keys/{key_id}/rotate`: a new key in the place of an
//! old one, which goes at once or after a while.

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::routes::{KeyView, check_expiry, stored};
use super::{KeyRow, NewKey, Succession, Tenants, sql};
use crate::auth::{Admin, ApiKey, Proof, Tenant};
use crate::clock::Timestamp;
use crate::db::{self, Tx};
use crate::http::idempotency::{ADMIN_SCOPE, Created, IdempotencyKey, once, replay, reused};
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};

/// Seconds for which the old key may go on: thirty days.
const LONGEST_GRACE: u64 = 30 * 24 * 3600;

/// Adds the route of this file.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.with(Method::POST, "/admin/tenants/{id}/keys/{key_id}/rotate", rotate, |it| {
        it.named("rotateKey", "Put a new key in the place of one")
            .about(
                "The new key has the old one's name, scopes, addresses and kind. The old one is revoked at once, or \
                 goes on for `grace_seconds`. Both count from the answer on. `api_key` is in this answer only; a \
                 repeat with the same `Idempotency-Key` is answered without it.",
            )
            .example("within a day", json!({ "grace_seconds": 86_400 }))
            .answer(StatusCode::CREATED, Answer::json::<KeyView>("The new key with its secret."))
            .problems(StatusCode::CONFLICT, &["key_not_active"])
            .idempotent()
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RotateKey")]
struct RotateBody {
    /// Seconds for which the old key goes on, never longer than it would have.
    #[serde(default)]
    #[schemars(range(max = LONGEST_GRACE))]
    grace_seconds: u64,
    /// When the new key stops working. Left out: when the old one would have.
    expires_at: Option<Timestamp>,
}

/// What is asked of a rotation.
struct Rotation {
    tenant_id: String,
    key_id: String,
    grace: Duration,
    /// When the new key ends; as the old one when not said.
    expires_at: Option<Timestamp>,
}

/// What came of a rotation.
enum Rotated {
    Done(Box<Done>),
    /// The key does not count any more, or has a successor already.
    Over(&'static str),
}

/// A rotation that took place.
struct Done {
    new: KeyRow,
    tenant: Tenant,
    /// The id of the old key, and when it ends.
    old: String,
    old_ends: Timestamp,
}

impl Done {
    fn succession(&self) -> Succession {
        Succession { tenant: self.tenant.no, old: self.old.clone(), new: self.new.id.clone() }
    }
}

async fn rotate(
    _: Admin,
    tenants: web::Data<Tenants>,
    ids: web::Path<(String, String)>,
    request: HttpRequest,
    _: NoQuery,
    body: AdminJson<RotateBody>,
) -> Result<HttpResponse, Problem> {
    let RotateBody { grace_seconds, expires_at } = body.value;
    if grace_seconds > LONGEST_GRACE {
        return Err(Problem::invalid("/grace_seconds", format!("must be a whole number from 0 to {LONGEST_GRACE}")));
    }
    check_expiry(expires_at, tenants.clock.now())?;
    let idempotency = IdempotencyKey::of(&request, ADMIN_SCOPE, &body.bytes)?;
    let (tenant_id, key_id) = ids.into_inner();
    let rotation = Rotation { tenant_id, key_id, grace: Duration::from_secs(grace_seconds), expires_at };
    let (rotated, api_key) = tenants.rotate(rotation, idempotency).await?;
    match rotated {
        None => Err(Problem::not_found("key")),
        Some(Created::New(Rotated::Done(done))) => {
            Ok(HttpResponse::Created().json(KeyView::of(&tenants, &done.new).with_secret(&api_key)))
        }
        Some(Created::New(Rotated::Over(how))) => {
            Err(Problem::conflict("key_not_active", format!("the key {how}; only an active one can be rotated"))
                .with_hint("make a new key"))
        }
        Some(Created::Replayed(stored)) => Ok(replay(&stored).body(stored.body)),
        Some(Created::KeyReused) => Err(reused()),
    }
}

impl Tenants {
    async fn rotate(
        &self,
        rotation: Rotation,
        key: Option<IdempotencyKey>,
    ) -> Result<(Option<Created<Rotated>>, ApiKey), db::Error> {
        let now = self.clock.now();
        let old = {
            let (tenant, key) = (rotation.tenant_id.clone(), rotation.key_id.clone());
            self.db.read(move |tx| sql::get_key(tx, &tenant, &key)).await?
        };
        let api_key = ApiKey::generate(old.is_some_and(|old| old.test));
        let (mac, mark) = (self.auth.hasher().mac(api_key.reveal()), self.auth.hasher().mark());
        let (id, keyring) = (api_key.id().to_owned(), self.auth.keyring.clone());
        let (heirs, told) = (self.heirs.clone(), self.heirs.clone());
        // What is kept for a replay must not hold the secret.
        let answer = |rotated: &Rotated| match rotated {
            Rotated::Done(done) => Some(stored(&KeyView::new(&done.new, "active", None))),
            Rotated::Over(_) => None,
        };
        let work = move |tx: &Tx<'_>| {
            once(tx, key.as_ref(), now, answer, || {
                let Some(tenant) = sql::tenant_of(tx, &rotation.tenant_id)? else { return Ok(None) };
                let old = sql::get_key(tx, &rotation.tenant_id, &rotation.key_id)?;
                let Some(old) = old else { return Ok(None) };
                if let Some(how) = over(&old, now) {
                    return Ok(Some(Rotated::Over(how)));
                }
                let new = NewKey {
                    name: old.name.clone(),
                    scopes: old.scopes.clone(),
                    expires_at: rotation.expires_at.or(old.expires_at),
                    test: old.test,
                    allowed_ips: old.allowed_ips.clone(),
                    rotated_from: Some(old.id.clone()),
                };
                let new = sql::insert_key(tx, tenant.no, &id, &new, &mac, mark, now)?;
                let old_ends = sql::replace_key(tx, &old, &new.id, rotation.grace, now)?;
                let done = Done { new, tenant, old: old.id, old_ends };
                if let Some((within, _)) = heirs.get() {
                    within(tx, &done.succession())?;
                }
                Ok(Some(Rotated::Done(Box::new(done))))
            })
        };
        let after = move |rotated: &Option<Created<Rotated>>| {
            if let Some(Created::New(Rotated::Done(done))) = rotated {
                if let Some((_, after)) = told.get() {
                    after(&done.succession());
                }
                keyring.add(done.new.facts(done.tenant, Proof::Now(mac)));
                if done.old_ends > now {
                    keyring.end_at(&done.old, done.old_ends);
                } else {
                    keyring.remove(&done.old);
                }
            }
        };
        Ok((self.db.write_then(work, after).await?, api_key))
    }
}

fn over(old: &KeyRow, now: Timestamp) -> Option<&'static str> {
    if old.revoked_at.is_some() {
        Some("has been revoked")
    } else if old.expires_at.is_some_and(|end| now >= end) {
        Some("has expired")
    } else if old.replaced_by.is_some() {
        Some("has been rotated before")
    } else {
        None
    }
}
