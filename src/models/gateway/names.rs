//! The models that can be named, and what is said of one that has no price.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::provider::{Table, Target};
use super::{Gateway, echo};
use crate::auth::{Caller, ModelsUse};
use crate::http::query::NoQuery;
use crate::http::{Problem, path_segment};

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

fn model(id: String, owner: &str) -> Model {
    Model { id, object: "model", created: 0, owned_by: owner.into() }
}

fn models(table: &Table, test: bool) -> Vec<Model> {
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
    let (table, id) = (gateway.0.table(), id.into_inner());
    if let Some(found) = models(&table, caller.key.test).into_iter().find(|model| model.id == id) {
        return Ok(web::Json(found));
    }
    let plain = id.trim_end_matches('/');
    if !is_name(plain) || plain.len() < id.len() {
        let problem = table.unknown(&id);
        let parts = plain.split('/').map(path_segment).collect::<Vec<_>>().join("/");
        return Err(if plain.is_empty() {
            problem
        } else {
            problem.with_hint(format!("did you mean /v1/models/{parts}?"))
        });
    }
    if caller.key.test {
        // Calls with a test key are answered by the same model whatever they name.
        return Ok(web::Json(model(id, "agentd")));
    }
    // What a call would be routed to, also where no alias names it.
    let route = table.route(&id)?;
    let first = route.steps.first().ok_or_else(|| table.unknown(&id))?;
    if route.steps.iter().any(|step| gateway.prices().of(&step.provider.name, &step.model).is_some()) {
        return Ok(web::Json(model(id, &first.provider.name)));
    }
    let (detail, hint) = unpriced(&table, &first.provider.name, &first.model, route.bare);
    Err(Problem::new(StatusCode::NOT_FOUND, "model_not_found", detail).with_hint(hint))
}

/// Whether a call can name a model so.
fn is_name(model: &str) -> bool {
    (1..=256).contains(&model.len()) && !model.chars().any(char::is_control)
}

/// What is wrong with a model that nobody has priced, and how that is changed; `bare` where the client has named it
/// without its provider.
pub(super) fn unpriced(table: &Table, provider: &str, model: &str, bare: bool) -> (String, String) {
    let name = format!("{provider}/{model}");
    let price = format!("the price of {name} is not known, so no budget can be checked for it");
    let (command, path) = (shell_word(&name), path_segment(&name));
    let set = format!(
        "the administrator sets the price: agentd price set {command} --input USD --output USD or PUT \
         /admin/models/prices/{path} with {{\"input_usd_per_million\":\"USD\",\"output_usd_per_million\":\"USD\"}}"
    );
    if !bare {
        return (price, set);
    }
    let aliases: Vec<_> = table.aliases.keys().map(String::as_str).collect();
    let known = if aliases.is_empty() { String::new() } else { format!("the aliases are {}; ", aliases.join(", ")) };
    let missing = match model.split_once('/') {
        Some((provider, _)) => format!("there is no provider {provider:?}"),
        None => format!("there is no alias {model:?}"),
    };
    (format!("{missing}, and {price}"), format!("{known}{set}"))
}

/// A text as one word of a command line.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_without_a_price_is_told_how_to_get_one() {
        let (detail, hint) = unpriced(&Table::default(), "openai", "org/gpt x", false);
        assert!(detail.starts_with("the price of openai/org/gpt x is not known"), "{detail}");
        assert!(hint.contains("agentd price set 'openai/org/gpt x' --input USD --output USD "), "{hint}");
        assert!(hint.contains("PUT /admin/models/prices/openai%2Forg%2Fgpt%20x with "), "{hint}");
        let (detail, _) = unpriced(&Table::default(), "openai", "gpt-x", true);
        assert!(detail.starts_with("there is no alias \"gpt-x\", and the price of openai/gpt-x is not"), "{detail}");
        let (detail, _) = unpriced(&Table::default(), "openai", "org/x", true);
        assert!(detail.starts_with("there is no provider \"org\", and the price of openai/org/x is not"), "{detail}");
    }

    #[test]
    fn a_name_is_one_word_for_a_shell() {
        assert_eq!(shell_word("openai/gpt-4o:free"), "openai/gpt-4o:free");
        assert_eq!(shell_word("a b'$(x)"), r"'a b'\''$(x)'");
    }
}
