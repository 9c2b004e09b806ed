//! Bringing providers and routes into memory and keeping them in step with the
//! database and the configuration.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::Registry;

use super::cache::Cache;
use super::metrics::Metrics;
use super::provider::{Alias, DEFAULT, LOW_COST, Provider, Settings, Table, Target};
use super::{Gateway, Inner, OpenError, Parts, sql};
use crate::config::ModelsSection;
use crate::db::{self, Tx};
use crate::vault::SecretName;

/// The provider that the configuration names.
pub(super) const CONFIGURED: &str = "openai";
/// Where it is when nobody says.
const USUAL_BASE: &str = "https://api.openai.com/v1";
/// What is tried when the default model fails.
const FAILOVER: &str = "failover";

/// What kind of secret a provider's key is.
pub(super) fn secret(name: &str) -> SecretName {
    SecretName::new("model-provider", name)
}

/// A provider as it is kept, with its key.
type Kept = (String, Settings, Option<String>);

impl Gateway {
    /// A gateway to the providers of the configuration and of the database.
    ///
    /// # Errors
    /// When what is kept or configured cannot be used.
    pub async fn open(parts: Parts, section: &ModelsSection, registry: &Registry) -> Result<Self, OpenError> {
        let usual = Settings {
            base_url: USUAL_BASE.into(),
            responses: true,
            concurrency: section.concurrency,
            first_token: section.first_token_time,
            total: section.total_time,
            on_hangup: section.on_hangup,
        };
        let gateway = Self(Arc::new(Inner {
            db: parts.db,
            vault: parts.vault,
            clock: parts.clock,
            outbound: parts.outbound,
            prices: parts.prices,
            budgets: parts.budgets,
            metrics: Metrics::new(registry)?,
            cache: Cache::default(),
            attempts: section.attempts,
            usual,
            table: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
        }));
        let (kept, routes) = gateway.0.read().await?;
        let mut table = Table::default();
        for (name, settings, key) in kept {
            match gateway.0.provider(&name, settings, key.as_deref(), false, None) {
                Ok(provider) => drop(table.providers.insert(provider.name.clone(), Arc::new(provider))),
                Err(error) => tracing::error!(provider = name, %error, "a provider of models cannot be used"),
            }
        }
        table.aliases.extend(routes.into_iter().map(|(alias, targets)| (alias, Alias { targets, configured: false })));
        gateway.0.set(table);
        gateway.configure(section).await?;
        Ok(gateway)
    }

    /// Takes what the configuration says of its provider and its models; a key
    /// counts from the next call on.
    ///
    /// # Errors
    /// When it cannot be used. Then nothing changes.
    pub async fn configure(&self, section: &ModelsSection) -> Result<(), OpenError> {
        let _alone = self.0.changing.lock().await;
        let before = self.0.table();
        let mut table = before.copy();
        table.providers.retain(|_, provider| !provider.configured);
        table.aliases.retain(|_, alias| !alias.configured);
        if section.has_provider() {
            let key = section.openai_api_key.resolve().map_err(OpenError::Key)?;
            let base = section.openai_base_url.as_ref().map_or(USUAL_BASE, |url| url.as_str());
            let settings = Settings {
                base_url: base.into(),
                // Others than OpenAI itself seldom have it.
                responses: section.openai_base_url.as_ref().is_none_or(|url| url.host_str() == Some("api.openai.com")),
                ..self.0.usual.clone()
            };
            let old = before.providers.get(CONFIGURED).map(|old| &**old);
            let provider = self.0.provider(CONFIGURED, settings, key.as_deref(), true, old);
            table.providers.insert(CONFIGURED.into(), Arc::new(provider.map_err(OpenError::Configured)?));
            for (alias, models) in [
                (DEFAULT, vec![&section.default_model, &section.failover_model]),
                (LOW_COST, vec![&section.low_cost_model]),
                (FAILOVER, vec![&section.failover_model]),
            ] {
                let target = |model: &String| Target { provider: CONFIGURED.into(), model: model.clone() };
                let Some(Some(first)) = models.first() else { continue };
                let mut targets = vec![target(first)];
                targets.extend(models.iter().skip(1).filter_map(|model| model.as_ref()).map(target));
                targets.dedup();
                table.aliases.insert(alias.into(), Alias { targets, configured: true });
            }
        }
        self.0.set(table);
        Ok(())
    }
}

impl Inner {
    pub(super) fn provider(
        &self,
        name: &str,
        settings: Settings,
        key: Option<&str>,
        configured: bool,
        before: Option<&Provider>,
    ) -> Result<Provider, crate::outbound::OutboundError> {
        let provider = Provider::new(name, settings, key, configured, &self.outbound, before)?;
        self.metrics.introduce(name);
        Ok(provider)
    }

    pub(super) fn set(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.cache.clear();
    }

    async fn read(&self) -> Result<(Vec<Kept>, Vec<(String, Vec<Target>)>), db::Error> {
        let vault = self.vault.clone();
        let work = move |tx: &Tx<'_>| {
            let with_key = |(name, settings): (String, Settings)| {
                let key = vault.get(tx, &secret(&name))?.and_then(|key| match key {
                    Ok(plain) => plain.into_text(),
                    Err(error) => {
                        tracing::error!(provider = name, %error, "the key of a provider cannot be opened; set it anew");
                        None
                    }
                });
                Ok((name, settings, key))
            };
            let kept = sql::providers(tx)?.into_iter().map(with_key).collect::<Result<_, db::Error>>()?;
            Ok((kept, sql::routes(tx)?))
        };
        self.db.read(work).await
    }
}
