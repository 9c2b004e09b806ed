//! The models that can be named.

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::provider::{Table, Target};
use super::{Gateway, echo};
use crate::auth::{Caller, ModelsUse};
use crate::http::Problem;
use crate::http::query::NoQuery;

/// A model that can be named.
#[derive(Serialize, JsonSchema)]
pub(in crate::models) struct Model {
    id: String,
    #[schemars(extend("const" = "model"))]
    object: &'static str,
    /// Seconds since 1970; not known.
    created: i64,
    /// The provider that is asked first.
    owned_by: String,
}

/// All of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
pub(in crate::models) struct Models {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<Model>,
}

fn models(table: &Table, test: bool) -> Vec<Model> {
    let model = |id: String, owner: &str| Model { id, object: "model", created: 0, owned_by: owner.into() };
    if test {
        return vec![model(echo::NAME.into(), "agentd")];
    }
    let owner = |targets: &[Target]| targets.first().map_or_else(String::new, |target| target.provider.clone());
    let mut models: Vec<_> =
        table.aliases.iter().map(|(alias, it)| model(alias.clone(), &owner(&it.targets))).collect();
    let targets = table.aliases.values().flat_map(|alias| &alias.targets);
    let mut named: Vec<_> =
        targets.map(|target| (format!("{}/{}", target.provider, target.model), &target.provider)).collect();
    named.sort();
    named.dedup();
    models.extend(named.into_iter().map(|(id, provider)| model(id, provider)));
    models
}

pub(in crate::models) async fn list(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    _: NoQuery,
) -> web::Json<Models> {
    web::Json(Models { object: "list", data: models(&gateway.0.table(), caller.key.test) })
}

pub(in crate::models) async fn one(
    caller: Caller<ModelsUse>,
    gateway: web::Data<Gateway>,
    id: web::Path<String>,
    _: NoQuery,
) -> Result<web::Json<Model>, Problem> {
    let table = gateway.0.table();
    let found = models(&table, caller.key.test).into_iter().find(|model| model.id == *id);
    found.map(web::Json).ok_or_else(|| table.unknown(&id))
}
