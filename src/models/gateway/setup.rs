//! Bringing providers and routes into memory and keeping them in step with the
//! database and the configuration.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus::Registry;

use super::cache::Cache;
use super::metrics::Metrics;
use super::provider::{Alias, DEFAULT, LOW_COST, Provider, Settings, Table, Target};
use super::{Gateway, Inner, OpenError, Parts, sql};
use crate::config::{BaseUrl, ModelsSection};
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

/// What is doubtful about a provider's address, or was not looked at when it was stored.
pub(super) fn doubts(base_url: &str) -> Vec<String> {
    let doubt = BaseUrl::parse(base_url).map_or_else(|fault| Some(format!("{base_url} {fault}")), |url| url.doubt());
    doubt.into_iter().collect()
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
        gateway.0.change(|table| {
            for (name, settings, key) in kept {
                for warning in doubts(&settings.base_url) {
                    tracing::warn!(provider = name, "base_url: {warning}");
                }
                match gateway.0.provider(&name, settings, key.as_deref(), false, None) {
                    Ok(provider) => drop(table.providers.insert(provider.name.clone(), Arc::new(provider))),
                    Err(error) => tracing::error!(provider = name, %error, "a provider of models cannot be used"),
                }
            }
            let kept = |(alias, targets)| (alias, Alias { targets, configured: false });
            table.aliases.extend(routes.into_iter().map(kept));
        });
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
        let provider = if section.has_provider() { Some(self.configured(section)?) } else { None };
        let aliases = provider.iter().flat_map(|_| aliases(section));
        self.0.change(|table| {
            table.providers.retain(|_, provider| !provider.configured);
            table.aliases.retain(|_, alias| !alias.configured);
            table.providers.extend(provider.clone().map(|provider| (provider.name.clone(), provider)));
            table.aliases.extend(aliases);
        });
        Ok(())
    }

    /// The provider that the configuration names.
    fn configured(&self, section: &ModelsSection) -> Result<Arc<Provider>, OpenError> {
        let key = section.openai_api_key.resolve().map_err(OpenError::Key)?;
        let base = section.openai_base_url.as_ref();
        let settings = Settings {
            base_url: base.map_or_else(|| USUAL_BASE.into(), ToString::to_string),
            // Others than OpenAI itself seldom have it.
            responses: base.is_none_or(|base| base.url().host_str() == Some("api.openai.com")),
            ..self.0.usual.clone()
        };
        let table = self.0.table();
        let before = table.providers.get(CONFIGURED).map(|before| &**before);
        let provider = self.0.provider(CONFIGURED, settings, key.as_deref(), true, before);
        provider.map(Arc::new).map_err(OpenError::Configured)
    }
}

/// The aliases of the configuration, and what each stands for.
fn aliases(section: &ModelsSection) -> Vec<(String, Alias)> {
    let named = [
        (DEFAULT, section.default_model.as_ref(), section.failover_model.as_ref()),
        (LOW_COST, section.low_cost_model.as_ref(), None),
        (FAILOVER, section.failover_model.as_ref(), None),
    ];
    let target = |model: &String| Target { provider: CONFIGURED.into(), model: model.clone() };
    let alias = |(alias, first, second): (&str, Option<&String>, Option<&String>)| {
        let mut targets: Vec<_> = [Some(first?), second].into_iter().flatten().map(target).collect();
        targets.dedup();
        Some((alias.to_owned(), Alias { targets, configured: true }))
    };
    named.into_iter().filter_map(alias).collect()
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

    /// Changes what there is. Of the database's part this is done on the thread
    /// that writes there, in the order of the commits, whether or not anybody
    /// still waits for that.
    pub(super) fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut held = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = held.copy();
        change(&mut table);
        *held = Arc::new(table);
        drop(held);
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
