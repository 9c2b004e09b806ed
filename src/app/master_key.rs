//! `POST /admin/master-key/rotate`: another key seals the secrets in the database.

use actix_web::http::{Method, StatusCode};
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::auth::Admin;
use crate::http::openapi::Answer;
use crate::http::query::NoQuery;
use crate::http::{Problem, Routes};
use crate::vault::{Fault, RotateError, Vault};

/// The routes of this file.
pub(super) fn routes() -> Routes {
    let example = json!({ "key_id": "5f3c9a1e77d2b604", "previous_key_id": "0b64d27715e9a3cf", "secrets": 3 });
    Routes::of("Service", "The service as a whole.").with(Method::POST, "/admin/master-key/rotate", rotate, |it| {
        it.named("rotateMasterKey", "Put a new master key in the place of the one that counts")
            .about(
                "Every secret in the database is sealed anew, in one transaction, and the key's file in the data \
                 folder is replaced. A key that is configured is somebody else's to change.",
            )
            .answer(StatusCode::OK, Answer::json::<Rotated>("The new key counts now.").showing(example))
            .problems(StatusCode::CONFLICT, &["master_key_configured"])
    })
}

/// A change of the master key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MasterKeyRotated")]
struct Rotated {
    /// Which key counts now; it tells nothing about the key.
    key_id: String,
    /// Which one counted before.
    previous_key_id: String,
    /// How many secrets were sealed anew.
    secrets: usize,
}

async fn rotate(_: Admin, vault: web::Data<Vault>, _: NoQuery) -> Result<web::Json<Rotated>, Problem> {
    let vault = vault.get_ref().clone();
    // A client that hangs up does not stop it half-way.
    let rotated = actix_web::rt::spawn(async move { vault.rotate().await }).await.map_err(Problem::internal)?;
    let rotated = rotated.map_err(|error| match error {
        RotateError::Configured => Problem::conflict("master_key_configured", error.to_string()).with_hint(
            "agentd admin new-master-key makes one; put it into data.master_key, the old one into \
                        data.previous_master_key, and restart",
        ),
        RotateError::Fault(Fault::Database(error)) => error.into(),
        RotateError::Fault(fault) => Problem::internal(fault),
    })?;
    Ok(web::Json(Rotated {
        key_id: rotated.to.to_string(),
        previous_key_id: rotated.from.to_string(),
        secrets: rotated.secrets,
    }))
}
