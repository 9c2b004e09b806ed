//! What models cost: prices that the service comes with, and those that its
//! administrator has written, which win. Held in memory, in step with the
//! database before an answer says that something has changed.

mod rate;
mod routes;
mod sql;
mod table;

use std::sync::{Arc, PoisonError, RwLock};

pub use rate::{LongContext, NoPrice, Price, Sheet, Unit};

pub(super) use routes::routes;

use crate::clock::Clock;
use crate::db::{self, Db};
use crate::money::Usd;
use table::{Entry, Table, names, shipped};

/// What is taken for a model that has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// A million tokens of input.
    pub input: Usd,
    /// A million tokens of output.
    pub output: Usd,
}

/// The prices of all models. Clones share them.
#[derive(Clone)]
pub struct Prices(Arc<Inner>);

struct Inner {
    clock: Clock,
    own: RwLock<Arc<Table>>,
    ceiling: Option<(Ceiling, Arc<Price>)>,
}

impl Prices {
    /// Those that the service comes with and no others.
    #[must_use]
    pub fn shipped() -> Self {
        Self::new(Clock::system(), None)
    }

    /// Those, and the administrator's over them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn open(db: &Db, clock: Clock, ceiling: Option<Ceiling>) -> Result<Self, db::Error> {
        let prices = Self::new(clock, ceiling);
        let mut own = Table::default();
        for row in db.read(sql::all).await? {
            let entry = Entry::new(&row.model, row.sheet, Some(row.updated_at));
            let entry = entry.map_err(|fault| sql::unreadable(&row.model, fault))?;
            own.set(&row.model, row.from, Arc::new(entry));
        }
        prices.change(|table| *table = own);
        Ok(prices)
    }

    fn new(clock: Clock, ceiling: Option<Ceiling>) -> Self {
        let ceiling = ceiling.map(|ceiling| (ceiling, Arc::new(Price::ceiling(ceiling.input, ceiling.output))));
        Self(Arc::new(Inner { clock, own: RwLock::default(), ceiling }))
    }

    /// What a provider's model costs now; whoever keeps it is not touched by later
    /// changes. `None` where that is not known: such a call must be refused.
    ///
    /// Looked for are `provider/model` and `model`, then both without the date or
    /// `-latest` at their end; all of them among the administrator's prices first.
    #[must_use]
    pub fn of(&self, provider: &str, model: &str) -> Option<Arc<Price>> {
        let (names, now) = (names(provider, model), self.0.clock.now());
        let own = self.own();
        let entry = own.find(&names, now).or_else(|| shipped().table.find(&names, now));
        entry.map(|entry| entry.price.clone()).or_else(|| self.0.ceiling.as_ref().map(|(_, price)| price.clone()))
    }

    fn own(&self) -> Arc<Table> {
        self.0.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the administrator's prices. Whoever reads them sees all of it or
    /// nothing.
    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut own = self.0.own.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_provider_and_name() {
        let prices = Prices::shipped();
        let input = |provider, model| {
            let price = prices.of(provider, model)?;
            let tokens = crate::budgets::Tokens { input: 1_000_000, ..Default::default() };
            Some(price.cost(tokens).to_string())
        };
        assert_eq!(input("openai", "gpt-4o").as_deref(), Some("2.5"));
        assert_eq!(input("whoever", "gpt-4o-2024-08-06").as_deref(), Some("2.5"));
        assert_eq!(input("openai", "gpt-4o-2024-05-13").as_deref(), Some("5"));
        assert_eq!(input("groq", "llama-3.1-8b-instant").as_deref(), Some("0.05"));
        assert_eq!(input("another", "llama-3.1-8b-instant"), None);
        assert_eq!(input("openai", "gpt-4o-secret"), None);
        assert_eq!(input("", ""), None);
    }

    #[test]
    fn a_ceiling_stands_in_for_an_unknown_price() {
        let ceiling = Ceiling { input: Usd::from_nano(20_000_000_000), output: Usd::from_nano(80_000_000_000) };
        let prices = Prices::new(Clock::system(), Some(ceiling));
        let price = prices.of("a", "nobody-knows-me").expect("the ceiling");
        let tokens = crate::budgets::Tokens { input: 1_000_000, output: 1_000_000, ..Default::default() };
        assert_eq!(price.cost(tokens).to_string(), "100");
        assert_eq!(prices.of("openai", "gpt-4o").expect("its own").cost(tokens).to_string(), "12.5");
    }
}
