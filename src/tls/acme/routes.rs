//! `/admin/certificates`.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use instant_acme::{RevocationReason, RevocationRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::{again, is};
use super::fault::{Fault, Kind};
use super::{Acme, CertificateState, Inner, Settings, parsed, sql};
use crate::auth::Admin;
use crate::config::CertName;
use crate::http::openapi::{Answer, Operation};
use crate::http::page::Page;
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};
use crate::jobs::JobId;

/// The routes of certificates.
#[must_use]
pub fn routes() -> Routes {
    Routes::of("Certificates", "What clients are shown, where it comes from, and when it is renewed.")
        .with(Method::GET, "/admin/certificates", list, |it| {
            it.named("listCertificates", "List certificates")
                .answer(StatusCode::OK, Answer::json::<Page<CertificateState>>("All certificates."))
        })
        .with(Method::POST, "/admin/certificates/{name}/renew", renew, |it| {
            name_parameter(it.named("renewCertificate", "Renew a certificate now, whether or not it is due"))
                .answer(StatusCode::ACCEPTED, Answer::json::<Renewing>("The job that does it."))
                .problems(StatusCode::CONFLICT, &["renewal_under_way"])
        })
        .with(Method::POST, "/admin/certificates/{name}/revoke", revoke, |it| {
            name_parameter(it.named("revokeCertificate", "Revoke a certificate and order another"))
                .answer(StatusCode::OK, Answer::json::<CertificateState>("The certificate, revoked."))
                .problems(StatusCode::CONFLICT, &["no_certificate"])
                .problems(StatusCode::BAD_GATEWAY, &["directory_refused"])
        })
        .with(Method::POST, "/admin/acme-accounts/rotate-keys", rotate_keys, |it| {
            it.named("rotateAccountKeys", "Give the accounts with authorities other keys")
                .about(
                    "RFC 8555, 7.3.5. Certificates stay as they are. An order that is under way may fail, and is made \
                     again in its time.",
                )
                .answer(StatusCode::OK, Answer::json::<KeysRotated>("The accounts have other keys."))
                .problems(StatusCode::BAD_GATEWAY, &["directory_refused"])
        })
}

fn name_parameter(it: Operation) -> Operation {
    it.about("The name is a name or an address of `acme.domains`.").problems(StatusCode::NOT_FOUND, &["not_found"])
}

async fn list(_: Admin, acme: web::Data<Acme>, _: NoQuery) -> Result<web::Json<Page<CertificateState>>, Problem> {
    Ok(web::Json(Page::new(acme.states().await?, None)))
}

/// What renews a certificate.
#[derive(Serialize, JsonSchema)]
struct Renewing {
    /// A job of the service's own, to be found among the jobs of all tenants.
    job_id: JobId,
}

async fn renew(_: Admin, acme: web::Data<Acme>, name: web::Path<String>, _: NoQuery) -> Result<HttpResponse, Problem> {
    let (name, _) = acme.0.configured(&name)?;
    let under_way = || {
        Problem::conflict("renewal_under_way", format!("{name} is being renewed already"))
            .with_hint("GET /admin/jobs?tool=certificate.renew shows the job")
    };
    let job_id = acme.0.submit(&name, true).await?.ok_or_else(under_way)?;
    Ok(HttpResponse::Accepted().json(Renewing { job_id }))
}

/// Why a certificate is revoked.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Reason {
    /// Not said.
    #[default]
    Unspecified,
    /// Somebody else may have the private key.
    KeyCompromise,
    /// The name is no longer ours.
    AffiliationChanged,
    /// Another has taken its place.
    Superseded,
    /// The service is given up.
    CessationOfOperation,
}

/// How a certificate is revoked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevokeCertificate")]
struct RevokeBody {
    /// Why; left out: not said.
    #[serde(default)]
    reason: Reason,
}

async fn revoke(
    _: Admin,
    acme: web::Data<Acme>,
    name: web::Path<String>,
    _: NoQuery,
    body: AdminJson<RevokeBody>,
) -> Result<web::Json<CertificateState>, Problem> {
    let (name, settings) = acme.0.configured(&name)?;
    acme.0.revoke(&name, &settings, body.value.reason).await?;
    Ok(web::Json(acme.0.state(&name).await?))
}

/// What accounts have other keys now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AccountKeysRotated")]
struct KeysRotated {
    /// The directories of the accounts; those without an account are left out.
    directories: Vec<String>,
}

async fn rotate_keys(_: Admin, acme: web::Data<Acme>, _: NoQuery) -> Result<web::Json<KeysRotated>, Problem> {
    let inner = acme.0.clone();
    // A client that hangs up does not stop it half-way.
    let rotated = actix_web::rt::spawn(async move { inner.rotate_account_keys().await }).await;
    let refused = |fault: Fault| Problem::new(StatusCode::BAD_GATEWAY, "directory_refused", fault.what);
    let directories = rotated.map_err(Problem::internal)?.map_err(refused)?;
    Ok(web::Json(KeysRotated { directories }))
}

impl Inner {
    fn configured(&self, name: &str) -> Result<(CertName, std::sync::Arc<Settings>), Problem> {
        let missing = || Problem::not_found("certificate");
        let settings = self.current().ok_or_else(missing)?;
        let known = settings.section.domains.iter().find(|known| known.to_string() == *name).cloned();
        known.map(|name| (name, settings)).ok_or_else(missing)
    }

    async fn revoke(&self, name: &CertName, settings: &Settings, reason: Reason) -> Result<(), Problem> {
        let row = self.row(name).await?;
        let none = || Problem::conflict("no_certificate", format!("{name} has no certificate"));
        let issued = row.issued.as_ref().ok_or_else(none)?;
        let key = parsed(name, &row).ok_or_else(none)?.key;
        let refused = |what: String| {
            Problem::new(StatusCode::BAD_GATEWAY, "directory_refused", format!("{}: {what}", issued.directory))
        };
        let account = self.account_of(issued, settings).await.map_err(refused)?;
        let certificate = key.cert.first().ok_or_else(none)?;
        let reason = match reason {
            Reason::Unspecified => RevocationReason::Unspecified,
            Reason::KeyCompromise => RevocationReason::KeyCompromise,
            Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
            Reason::Superseded => RevocationReason::Superseded,
            Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        };
        let request = RevocationRequest { certificate, reason: Some(reason) };
        match again!(account.revoke(&request)) {
            Ok(()) => {}
            Err(instant_acme::Error::Api(problem)) if is(&problem, "alreadyRevoked") => {}
            Err(error) => {
                let fault = Fault::of_account(error);
                let todo =
                    "agentd cert renew registers another account and proves the name with it, which may then revoke";
                return Err(refused(match fault.kind {
                    Kind::AccountLost => {
                        format!("{}; the account that ordered it is not accepted any more: {todo}", fault.what)
                    }
                    _ => fault.what,
                }));
            }
        }
        let (key, now) = (name.to_string(), self.clock.now());
        let issued_at = issued.issued_at;
        self.db.write(move |tx| sql::revoke(tx, &key, issued_at, now)).await?;
        tracing::warn!(%name, "a certificate was revoked; another is ordered");
        self.changed.notify_one();
        Ok(())
    }
}
