//! Prices by model and by the moment that they count from.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use super::rate::{NoPrice, Price, Sheet};
use crate::clock::Timestamp;
use crate::models::tokens::Vocabulary;

/// What the service comes with.
const SHIPPED: &str = include_str!("../../../assets/prices.toml");

/// A price in a table.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it was written.
    pub(super) sheet: Sheet,
    /// As it is used.
    pub(super) price: Arc<Price>,
    /// When it was written, where somebody wrote it into this service.
    pub(super) updated_at: Option<Timestamp>,
}

impl Entry {
    /// A sheet for a model. Whether the model writes what it does not show is
    /// taken from the shipped price where the sheet leaves it out.
    pub(super) fn new(model: &str, sheet: Sheet, updated_at: Option<Timestamp>) -> Result<Self, NoPrice> {
        let vocabulary = Vocabulary::of_model(model);
        let price = if sheet.reasoning.is_none() && updated_at.is_some() {
            let bare = model.split_once('/').map_or(model, |(_, bare)| bare);
            let reasons = shipped().table.find(&names("", bare), Timestamp::MAX).is_some_and(|it| it.price.reasons());
            Price::new(&Sheet { reasoning: Some(reasons), ..sheet.clone() }, vocabulary)?
        } else {
            Price::new(&sheet, vocabulary)?
        };
        Ok(Self { sheet, price: Arc::new(price), updated_at })
    }
}

/// Prices by name; of one name, by the moment that they count from.
#[derive(Debug, Default, Clone)]
pub(super) struct Table(HashMap<Box<str>, Vec<(Timestamp, Arc<Entry>)>>);

impl Table {
    /// Adds a price, in the place of one that counts from the same moment.
    pub(super) fn set(&mut self, model: &str, from: Timestamp, entry: Arc<Entry>) {
        let entries = self.0.entry(model.into()).or_default();
        match entries.binary_search_by_key(&from, |(from, _)| *from) {
            Ok(place) => entries[place].1 = entry,
            Err(place) => entries.insert(place, (from, entry)),
        }
    }

    /// Takes a price out.
    pub(super) fn remove(&mut self, model: &str, from: Timestamp) {
        if let Some(entries) = self.0.get_mut(model) {
            entries.retain(|(other, _)| *other != from);
            if entries.is_empty() {
                self.0.remove(model);
            }
        }
    }

    /// The price of the first of these names that has one by now.
    pub(super) fn find(&self, names: &[String], now: Timestamp) -> Option<&Arc<Entry>> {
        names.iter().find_map(|name| self.at(name, now).map(|(_, entry)| entry))
    }

    /// The price of this very name that counts at a moment, and since when.
    pub(super) fn at(&self, name: &str, now: Timestamp) -> Option<&(Timestamp, Arc<Entry>)> {
        self.0.get(name)?.iter().rev().find(|(from, _)| *from <= now)
    }

    /// Everything that is in it, by name and moment.
    pub(super) fn all(&self) -> Vec<(&str, Timestamp, &Arc<Entry>)> {
        let mut all = Vec::new();
        for (name, entries) in &self.0 {
            all.extend(entries.iter().map(|(from, entry)| (&**name, *from, entry)));
        }
        all.sort_unstable_by_key(|(name, from, _)| (*name, *from));
        all
    }
}

/// The names that a model's price is looked for under, the first one first: with
/// its provider, without, and both without the date or `-latest` at their end.
pub(super) fn names(provider: &str, model: &str) -> Vec<String> {
    let mut names = Vec::with_capacity(4);
    for model in [Some(model), undated(model)].into_iter().flatten() {
        if !provider.is_empty() {
            names.push(format!("{provider}/{model}"));
        }
        names.push(model.to_owned());
    }
    names
}

/// `gpt-4o-2024-08-06` is `gpt-4o`, `claude-sonnet-4-5-20250929` is
/// `claude-sonnet-4-5`. Dates in other forms stay, because versions are written
/// so too.
fn undated(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let is_date = |text: &str, form: &str| {
        text.len() == form.len()
            && text
                .bytes()
                .zip(form.bytes())
                .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form })
    };
    for form in ["-0000-00-00", "-00000000"] {
        let Some((name, date)) = model.len().checked_sub(form.len()).and_then(|at| model.split_at_checked(at)) else {
            continue;
        };
        if is_date(date, form) && !name.is_empty() {
            return Some(name);
        }
    }
    None
}

/// The table that the service comes with.
#[derive(Debug, Default)]
pub(super) struct Shipped {
    /// Where its numbers are from.
    pub(super) source: String,
    /// When they were true, a date.
    pub(super) as_of: String,
    pub(super) table: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: String,
    as_of: String,
    price: Vec<FileEntry>,
}

/// Read by hand, because unknown fields would be let through beside a flattened
/// sheet.
struct FileEntry {
    model: String,
    sheet: Sheet,
}

impl<'de> Deserialize<'de> for FileEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn own<T: DeserializeOwned, E: de::Error>(value: toml::Value) -> Result<T, E> {
            value.try_into().map_err(E::custom)
        }
        let mut fields = toml::Table::deserialize(deserializer)?;
        let model = fields.remove("model").ok_or_else(|| de::Error::missing_field("model"))?;
        Ok(Self { model: own(model)?, sheet: own(fields.into())? })
    }
}

impl Shipped {
    fn read(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut table = Table::default();
        for FileEntry { model, mut sheet } in file.price {
            let from = sheet.effective_from.take().unwrap_or(ALWAYS);
            if table.at(&model, from).is_some_and(|(other, _)| *other == from) {
                return Err(format!("{model} has two prices from {from}"));
            }
            let entry = Entry::new(&model, sheet, None).map_err(|fault| format!("{model}: {fault}"))?;
            table.set(&model, from, Arc::new(entry));
        }
        Ok(Self { source: file.source, as_of: file.as_of, table })
    }
}

/// The moment of prices that count from ever.
pub(super) const ALWAYS: Timestamp = Timestamp::from_micros(0);

/// The table that the service comes with, read at first use.
pub(super) fn shipped() -> &'static Shipped {
    static SHIPPED_TABLE: LazyLock<Shipped> = LazyLock::new(|| {
        // A test reads it, so this cannot fail in what is shipped; models would
        // be refused for want of a price, never free.
        Shipped::read(SHIPPED).unwrap_or_else(|fault| {
            tracing::error!(fault, "the shipped prices cannot be read");
            Shipped::default()
        })
    });
    &SHIPPED_TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Usd;

    #[test]
    fn the_shipped_prices_are_plausible() {
        let shipped = Shipped::read(SHIPPED).expect("a table");
        assert!(shipped.source.starts_with("https://") && shipped.as_of.len() == 10, "{}", shipped.as_of);
        let all = shipped.table.all();
        assert!(all.len() >= 80, "{}", all.len());
        let (cent, much) = (Usd::from_nano(10_000_000), Usd::from_nano(1_000_000_000_000));
        for (model, _, entry) in all {
            let Sheet { input_usd_per_million, output_usd_per_million, context_tokens, output_tokens, .. } =
                entry.sheet;
            if let Some(input) = input_usd_per_million {
                assert!((cent..=much).contains(&input), "{model} costs {input}");
                // Embeddings and speech aside, everything writes.
                assert!(output_usd_per_million.is_none_or(|output| output >= input), "{model}: output is cheap");
                let cached = entry.sheet.cached_input_usd_per_million;
                assert!(cached.is_none_or(|cached| cached > Usd::ZERO && cached <= input), "{model}: cached input");
            }
            let writes = output_usd_per_million.is_some();
            assert!(!writes || context_tokens.is_some(), "{model} has no context");
            assert!(
                !writes || output_tokens.is_some_and(|most| most <= context_tokens.unwrap_or(0)),
                "{model}: output"
            );
            if let Some(long) = &entry.sheet.long_context {
                assert!(long.input_usd_per_million > input_usd_per_million.unwrap_or_default(), "{model}: long input");
                assert!(long.above_tokens < context_tokens.unwrap_or(0), "{model}: long input");
            }
        }
    }

    #[test]
    fn a_dated_name_is_its_model() {
        for (name, model) in [
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("claude-3-7-sonnet-latest", Some("claude-3-7-sonnet")),
            ("mistral-large-2411", None),
            ("gpt-4o", None),
            ("-2024-08-06", None),
            ("gpt-4o-2024-08-0x", None),
            ("模-20250929", Some("模")),
            ("模型20250929", None),
            ("", None),
        ] {
            assert_eq!(undated(name), model, "{name}");
        }
        assert_eq!(names("a", "b-latest"), ["a/b-latest", "b-latest", "a/b", "b"]);
        assert_eq!(names("", "b"), ["b"]);
    }

    #[test]
    fn the_latest_price_that_has_begun_counts() {
        let mut table = Table::default();
        let entry = |input: i64| {
            let sheet = Sheet { input_usd_per_million: Some(Usd::from_nano(input)), ..Sheet::default() };
            Arc::new(Entry::new("a", sheet, None).expect("a price"))
        };
        let at = Timestamp::from_micros;
        table.set("a", at(10), entry(1));
        table.set("a", at(30), entry(3));
        table.set("a", at(20), entry(2));
        let input = |table: &Table, now| table.at("a", now).map(|(_, entry)| entry.sheet.input_usd_per_million);
        let nano = |nano| Some(Some(Usd::from_nano(nano)));
        assert_eq!([9, 10, 25, 30, 99].map(|now| input(&table, at(now))), [None, nano(1), nano(2), nano(3), nano(3)]);
        table.set("a", at(30), entry(4));
        table.remove("a", at(20));
        assert_eq!([25, 30].map(|now| input(&table, at(now))), [nano(1), nano(4)]);
    }

    #[test]
    fn a_table_with_faults_is_refused() {
        let table = |text: &str| Shipped::read(&format!("source = \"\"\nas_of = \"\"\n{text}")).map(|_| ());
        let price = "[[price]]\nmodel = \"a\"\ninput_usd_per_million = \"1\"\n";
        assert_eq!(table(price), Ok(()));
        assert_eq!(table(&price.repeat(2)), Err("a has two prices from 1970-01-01T00:00:00.000000Z".into()));
        assert!(table("[[price]]\nmodel = \"a\"\n").is_err());
        assert!(table(&format!("{price}inptu = \"1\"\n")).is_err());
    }
}
