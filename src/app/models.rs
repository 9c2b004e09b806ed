//! The rooms of language models, built and connected.

use std::sync::Arc;

use actix_web::web;
use prometheus::Registry as Metrics;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::BuildError;
use crate::budgets::Budgets;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{self, Db};
use crate::id::IdSource;
use crate::jobs::{self, Handler, Jobs};
use crate::models::batches::{self, Batches};
use crate::models::files::{self, Files};
use crate::models::price::{Ceiling, Prices};
use crate::models::responses::{self, Responses};
use crate::models::{self, Endpoint, Gateway};
use crate::outbound::Outbound;
use crate::vault::Vault;

/// What the rooms are built over.
pub(super) struct Parts<'a> {
    pub config: &'a Config,
    pub db: &'a Db,
    pub vault: &'a Vault,
    pub clock: &'a Clock,
    pub ids: &'a IdSource,
    pub outbound: &'a Outbound,
    pub budgets: &'a Budgets,
}

/// The rooms. Clones share them.
#[derive(Clone)]
pub(super) struct Models {
    pub budgets: Budgets,
    pub gateway: Gateway,
    prices: Prices,
    responses: Responses,
    files: Files,
    batches: Batches,
}

/// The greatest row number that jobs, calls, responses and files have.
pub(super) async fn last_no(db: &Db) -> Result<i64, db::Error> {
    let (jobs, calls) = (Jobs::last_no(db).await?, Budgets::last_no(db).await?);
    Ok(jobs.max(calls).max(Responses::last_no(db).await?).max(files::last_no(db).await?))
}

impl Models {
    pub(super) async fn open(parts: Parts<'_>, metrics: &Metrics) -> Result<Self, BuildError> {
        let Parts { config, db, vault, clock, ids, outbound, budgets } = parts;
        let ceiling = config.prices.unknown.map(|(input, output)| Ceiling { input, output });
        let prices = Prices::open(db, clock.clone(), ceiling).await?;
        let over = models::Parts {
            db: db.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            outbound: outbound.clone(),
            prices: prices.clone(),
            budgets: budgets.clone(),
        };
        let gateway = Gateway::open(over, &config.models, metrics).await?;
        let over = responses::Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            models: Arc::new(gateway.clone()),
            vault: vault.clone(),
            keep: config.models.keep_responses,
        };
        let responses = Responses::new(over);
        let files = Files::new(db.clone(), clock.clone(), ids.clone(), config.files);
        files.recover().await?;
        let (calls, asks) = (gateway.clone(), responses.clone());
        let over = batches::Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            files: files.clone(),
            call: Arc::new(move |call| {
                let (calls, asks) = (calls.clone(), asks.clone());
                Box::pin(async move {
                    match call.endpoint {
                        Endpoint::Responses => asks.answer(call).await,
                        _ => calls.call(call).await,
                    }
                })
            }),
            concurrency: config.files.batch_concurrency,
        };
        let batches = Batches::new(over);
        Ok(Self { budgets: budgets.clone(), gateway, prices, responses, files, batches })
    }

    /// What they do as jobs of the service's own.
    pub(super) fn handlers(&self) -> [Handler; 2] {
        [responses::handler(&self.responses), batches::handler(&self.batches)]
    }

    /// Takes up what the last run has left.
    pub(super) fn run(&self, jobs: &Jobs, on: &Handle, stop: &CancellationToken) {
        on.spawn(self.budgets.clone().run(stop.clone()));
        let (responses, stopped) = (self.responses.clone(), stop.clone());
        on.spawn(async move { responses.run(&stopped).await });
        let (files, stopped) = (self.files.clone(), stop.clone());
        on.spawn(async move { files.run(&stopped).await });
        let (batches, jobs, stopped) = (self.batches.clone(), jobs.clone(), stop.clone());
        on.spawn(async move { batches.run(jobs, &stopped).await });
    }

    /// Tells those who submit jobs of their own whom to hand them.
    pub(super) fn begin(&self, jobs: &jobs::Jobs) {
        self.responses.begin(jobs.clone());
    }

    /// Lets a tenant's batches wait, or go on.
    pub(super) fn hold(&self, tenant: i64, hold: bool) {
        self.batches.hold(tenant, hold);
    }

    /// Takes away what belongs to a deleted tenant.
    ///
    /// # Errors
    /// When the database cannot be written. What is left is for the next start.
    pub(super) async fn clear_tenant(&self, tenant: i64) -> Result<(), db::Error> {
        self.batches.clear_tenant(tenant).await;
        self.files.clear_tenant(tenant).await;
        self.responses.clear_tenant(tenant).await?;
        self.budgets.clear_tenant(tenant).await
    }

    /// Hands them to the routes.
    pub(super) fn configure(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::new(self.budgets.clone()))
            .app_data(web::Data::new(self.prices.clone()))
            .app_data(web::Data::new(self.gateway.clone()))
            .app_data(web::Data::new(self.responses.clone()))
            .app_data(web::Data::new(self.files.clone()))
            .app_data(web::Data::new(self.batches.clone()));
    }
}
