//! `/admin/models`: providers, what stands for their models, and how they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::breaker::State;
use super::provider::{Alias, Provider, Settings, Table, Target};
use super::setup::{doubts, secret};
use super::{Gateway, Inner, sql};
use crate::auth::{Admin, Operator};
use crate::clock::Timestamp;
use crate::config::{BaseUrl, OnHangup};
use crate::db::Tx;
use crate::http::openapi::{Answer, Operation};
use crate::http::query::NoQuery;
use crate::http::{AdminJson, Problem, Routes};

/// Targets of one alias.
const MOST_TARGETS: usize = 16;

pub(in crate::models) fn routes() -> Routes {
    let unknown = |it: Operation| it.problems(StatusCode::NOT_FOUND, &["not_found"]);
    let locked = |it: Operation| it.problems(StatusCode::CONFLICT, &["configured"]);
    Routes::of("Models", "")
        .with(Method::GET, "/admin/models", overview, |it| {
            it.named("getModelSetup", "Get providers, aliases and how they are")
                .answer(StatusCode::OK, Answer::json::<Overview>("All of them; never a key."))
        })
        .with(Method::PUT, "/admin/models/providers/{name}", put_provider, |it| {
            locked(it.named("setModelProvider", "Set up a provider of models"))
                .about(
                    "Any service that speaks OpenAI's interface. Replaces what is kept, except for a key that is left \
                     out: that stays as it is as long as `base_url` does. It counts from the answer on; calls under \
                     way end as they began.",
                )
                .example("local", json!({ "base_url": "http://127.0.0.1:11434/v1" }))
                .answer(StatusCode::OK, Answer::json::<ProviderView>("The provider."))
        })
        .with(Method::DELETE, "/admin/models/providers/{name}", remove_provider, |it| {
            locked(unknown(it.named("removeModelProvider", "Remove a provider and its key")))
                .problems(StatusCode::CONFLICT, &["in_use"])
                .answer(StatusCode::NO_CONTENT, Answer::empty("It is gone."))
        })
        .with(Method::PUT, "/admin/models/routes/{alias}", put_route, |it| {
            locked(it.named("setModelRoute", "Set what an alias stands for"))
                .about("The first target is asked; when it fails, the next one, as long as nothing has been answered.")
                .example("failover", json!({ "targets": [{ "provider": "local", "model": "llama3.2" }] }))
                .answer(StatusCode::OK, Answer::json::<RouteView>("The alias."))
        })
        .with(Method::DELETE, "/admin/models/routes/{alias}", remove_route, |it| {
            locked(unknown(it.named("removeModelRoute", "Remove an alias")))
                .answer(StatusCode::NO_CONTENT, Answer::empty("It is gone."))
        })
}

/// How a provider is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetModelProvider")]
struct ProviderBody {
    /// Where it is, with the path that its routes are below, such as `/v1`; not the address of one route.
    base_url: String,
    /// What it is shown; never shown again. `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    api_key: Change,
    /// Whether it has `/responses`; false when left out.
    responses: Option<bool>,
    /// Calls at a time; as the service's own setting when left out, like all below.
    #[schemars(range(min = 1, max = 100_000))]
    concurrency: Option<usize>,
    /// Seconds to the first byte of a stream.
    #[schemars(range(min = 0.1, max = 86_400))]
    first_token_seconds: Option<f64>,
    /// Seconds for a whole answer.
    #[schemars(range(min = 0.1, max = 86_400))]
    total_seconds: Option<f64>,
    /// What becomes of a call whose client hangs up.
    on_hangup: Option<OnHangup>,
}

/// What becomes of a provider's key.
#[derive(Clone, Default)]
enum Change {
    #[default]
    Stay,
    To(Option<String>),
}

fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Change, D::Error> {
    Option::<String>::deserialize(deserializer).map(Change::To)
}

impl ProviderBody {
    fn settings(&self, usual: &Settings) -> Result<Settings, Problem> {
        let base_url = BaseUrl::parse(&self.base_url).map_err(|fault| Problem::invalid("/base_url", fault))?;
        let base_url = base_url.to_string();
        crate::outbound::parse(&base_url).map_err(|error| Problem::invalid("/base_url", error.to_string()))?;
        let span = |name: &str, seconds: Option<f64>, usual: Duration| match seconds {
            None => Ok(usual),
            Some(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
            Some(_) => Err(Problem::invalid(format!("/{name}"), "must be a number from 0.1 to 86400")),
        };
        let concurrency = self.concurrency.unwrap_or(usual.concurrency);
        if !(1..=100_000).contains(&concurrency) {
            return Err(Problem::invalid("/concurrency", "must be a whole number from 1 to 100000"));
        }
        Ok(Settings {
            base_url,
            responses: self.responses.unwrap_or(false),
            concurrency,
            first_token: span("first_token_seconds", self.first_token_seconds, usual.first_token)?,
            total: span("total_seconds", self.total_seconds, usual.total)?,
            on_hangup: self.on_hangup.unwrap_or(usual.on_hangup),
        })
    }
}

/// A provider.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelProvider")]
struct ProviderView {
    name: String,
    base_url: String,
    /// Whether it is shown a key.
    has_key: bool,
    responses: bool,
    concurrency: usize,
    first_token_seconds: f64,
    total_seconds: f64,
    on_hangup: OnHangup,
    /// Whether the configuration names it, so that it is changed there.
    configured: bool,
    /// Calls under way.
    in_flight: usize,
    /// The breakers of its models that have failed of late.
    breakers: BTreeMap<String, State>,
    /// What is probably wrong with `base_url`, such as a version that is missing.
    warnings: Vec<String>,
}

impl ProviderView {
    fn of(provider: &Provider, now: Timestamp) -> Self {
        let settings = &provider.settings;
        Self {
            name: provider.name.to_string(),
            base_url: settings.base_url.clone(),
            has_key: provider.authorization.is_some(),
            responses: settings.responses,
            concurrency: settings.concurrency,
            first_token_seconds: settings.first_token.as_secs_f64(),
            total_seconds: settings.total.as_secs_f64(),
            on_hangup: settings.on_hangup,
            configured: provider.configured,
            in_flight: settings.concurrency.saturating_sub(provider.health.places.available_permits()),
            breakers: provider.health.breakers(now),
            warnings: doubts(&settings.base_url),
        }
    }
}

/// What an alias stands for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetModelRoute")]
struct RouteBody {
    /// Asked in this order.
    #[schemars(length(min = 1, max = 16))]
    targets: Vec<Target>,
}

/// An alias.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelRoute")]
struct RouteView {
    alias: String,
    targets: Vec<Target>,
    /// Whether the configuration names it, so that it is changed there.
    configured: bool,
}

/// Everything that a call can go to.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelSetup")]
struct Overview {
    providers: Vec<ProviderView>,
    routes: Vec<RouteView>,
}

type Service = web::Data<Gateway>;

async fn overview(_: Operator, gateway: Service, _: NoQuery) -> web::Json<Overview> {
    let (table, now) = (gateway.0.table(), gateway.0.clock.now());
    let route = |(alias, it): (&String, &Alias)| RouteView {
        alias: alias.clone(),
        targets: it.targets.clone(),
        configured: it.configured,
    };
    web::Json(Overview {
        providers: table.providers.values().map(|provider| ProviderView::of(provider, now)).collect(),
        routes: table.aliases.iter().map(route).collect(),
    })
}

async fn put_provider(
    _: Admin,
    gateway: Service,
    name: web::Path<String>,
    _: NoQuery,
    body: AdminJson<ProviderBody>,
) -> Result<web::Json<ProviderView>, Problem> {
    let (inner, body) = (&gateway.0, body.value);
    let name = checked_name("provider", &name)?;
    let settings = body.settings(&inner.usual)?;
    if let Change::To(Some(key)) = &body.api_key
        && (key.is_empty() || key.len() > 4096 || !key.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err(Problem::invalid("/api_key", "holds characters that no key has"));
    }
    let _alone = inner.changing.lock().await;
    let table = inner.table();
    let before = table.providers.get(&*name).cloned();
    if before.as_ref().is_some_and(|before| before.configured) {
        return Err(configured("provider"));
    }
    // A key goes to nobody but whom it was given for.
    let is_there = |url: &str| BaseUrl::parse(url).is_ok_and(|url| url.to_string() == settings.base_url);
    let same_place = before.as_ref().is_some_and(|before| is_there(&before.settings.base_url));
    let key = match &body.api_key {
        Change::Stay if !same_place => Change::To(None),
        given => given.clone(),
    };
    let provider = inner.stored_provider(&name, settings, key, before.as_deref()).await?;
    Ok(web::Json(ProviderView::of(&provider, inner.clock.now())))
}

impl Inner {
    async fn stored_provider(
        self: &Arc<Self>,
        name: &str,
        settings: Settings,
        key: Change,
        before: Option<&Provider>,
    ) -> Result<Arc<Provider>, Problem> {
        let shown = match &key {
            Change::Stay => None,
            Change::To(key) => key.clone(),
        };
        let made = self.provider(name, settings.clone(), shown.as_deref(), false, before);
        let mut provider = made.map_err(|error| Problem::invalid("/base_url", error.to_string()))?;
        if matches!(key, Change::Stay) {
            provider.authorization = before.and_then(|before| before.authorization.clone());
        }
        let (vault, kept, now) = (self.vault.clone(), name.to_owned(), self.clock.now());
        let work = move |tx: &Tx<'_>| {
            sql::put_provider(tx, &kept, &settings, now)?;
            match &key {
                Change::Stay => Ok(()),
                Change::To(Some(key)) => vault.put(tx, &secret(&kept), key.as_bytes()),
                Change::To(None) => vault.remove(tx, &secret(&kept)),
            }
        };
        let provider = Arc::new(provider);
        let (inner, new) = (self.clone(), provider.clone());
        let after = move |(): &()| inner.change(|table| drop(table.providers.insert(new.name.clone(), new.clone())));
        self.db.write_then(work, after).await?;
        Ok(provider)
    }
}

async fn remove_provider(
    _: Admin,
    gateway: Service,
    name: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let inner = &gateway.0;
    let _alone = inner.changing.lock().await;
    let table = inner.table();
    let provider = table.providers.get(name.as_str()).ok_or_else(|| Problem::not_found("provider"))?;
    if provider.configured {
        return Err(configured("provider"));
    }
    let uses = |alias: &&(&String, &Alias)| alias.1.targets.iter().any(|target| target.provider == *name);
    if let Some((alias, _)) = table.aliases.iter().collect::<Vec<_>>().iter().find(uses) {
        return Err(Problem::conflict("in_use", format!("the alias {alias} stands for one of its models"))
            .with_hint("change or remove the alias first"));
    }
    let (vault, kept) = (inner.vault.clone(), name.clone());
    let work = move |tx: &Tx<'_>| {
        vault.remove(tx, &secret(&kept))?;
        sql::remove_provider(tx, &kept)
    };
    let there = inner.clone();
    let after = move |_: &_| {
        there.change(|table| drop(table.providers.remove(name.as_str())));
        there.metrics.forget(&name);
    };
    inner.db.write_then(work, after).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn put_route(
    _: Admin,
    gateway: Service,
    alias: web::Path<String>,
    _: NoQuery,
    body: AdminJson<RouteBody>,
) -> Result<web::Json<RouteView>, Problem> {
    let (inner, targets) = (&gateway.0, body.value.targets);
    let alias = checked_name("alias", &alias)?;
    if targets.is_empty() || targets.len() > MOST_TARGETS {
        return Err(Problem::invalid("/targets", format!("must be 1 to {MOST_TARGETS}")));
    }
    let _alone = inner.changing.lock().await;
    let table = inner.table();
    if table.aliases.get(&alias).is_some_and(|alias| alias.configured) {
        return Err(configured("alias"));
    }
    for (place, target) in targets.iter().enumerate() {
        if !table.providers.contains_key(&*target.provider) {
            let detail = format!("there is no provider {:?}", target.provider);
            return Err(Problem::invalid(format!("/targets/{place}/provider"), detail));
        }
        if target.model.is_empty() || target.model.len() > 256 || target.model.chars().any(char::is_control) {
            return Err(Problem::invalid(format!("/targets/{place}/model"), "is no name of a model"));
        }
    }
    let (kept, list, now) = (alias.clone(), targets.clone(), inner.clock.now());
    let work = move |tx: &Tx<'_>| sql::put_route(tx, &kept, &list, now);
    let (there, name, new) = (inner.clone(), alias.clone(), Alias { targets: targets.clone(), configured: false });
    let after = move |(): &()| there.change(|table| drop(table.aliases.insert(name, new)));
    inner.db.write_then(work, after).await?;
    Ok(web::Json(RouteView { alias, targets, configured: false }))
}

async fn remove_route(
    _: Admin,
    gateway: Service,
    alias: web::Path<String>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let inner = &gateway.0;
    let _alone = inner.changing.lock().await;
    let table = inner.table();
    match table.aliases.get(alias.as_str()) {
        None => return Err(Problem::not_found("alias")),
        Some(known) if known.configured => return Err(configured("alias")),
        Some(_) => {}
    }
    let (kept, there) = (alias.clone(), inner.clone());
    let work = move |tx: &Tx<'_>| sql::remove_route(tx, &kept);
    let after = move |_: &_| there.change(|table| drop(table.aliases.remove(alias.as_str())));
    inner.db.write_then(work, after).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn configured(what: &str) -> Problem {
    Problem::conflict("configured", format!("the configuration names this {what}, so it is changed there"))
        .with_hint("see [models] in the configuration file, and reload")
}

/// A name that stands in paths, metrics and `provider/model`.
fn checked_name(what: &str, name: &str) -> Result<String, Problem> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(name.to_owned());
    }
    let detail = format!("the name of a {what} is 1 to 64 lower-case letters, digits or any of -_.");
    Err(Problem::bad_request("invalid_request", detail))
}

impl Table {
    /// The same, to be changed.
    pub(super) fn copy(&self) -> Self {
        Self { providers: self.providers.clone(), aliases: self.aliases.clone() }
    }
}
