//! What the provider would put on its bill, in its own arithmetic: the tests
//! hold the service's ledger against it.

use std::collections::BTreeMap;

use agentd::money::Usd;
use serde::{Deserialize, Serialize};

/// What a model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// For a million tokens of input that was not cached.
    pub input: Usd,
    /// For a million cached ones.
    pub cached: Usd,
    /// For a million of output, the reasoning ones included.
    pub output: Usd,
    /// For every call.
    pub call: Usd,
    /// For a million characters of text that is to be spoken.
    pub characters: Usd,
    /// For a minute of sound.
    pub minute: Usd,
}

impl Price {
    /// For a million tokens of input and of output, in dollars. Cached input
    /// costs as much as any.
    #[track_caller]
    pub fn tokens(input: &str, output: &str) -> Self {
        let input = usd(input);
        Self { input, cached: input, output: usd(output), ..Self::default() }
    }

    /// The same with another price for cached input.
    #[track_caller]
    pub fn cached(self, cached: &str) -> Self {
        Self { cached: usd(cached), ..self }
    }

    /// The same with a price for every call.
    #[track_caller]
    pub fn call(self, call: &str) -> Self {
        Self { call: usd(call), ..self }
    }

    /// For a million characters.
    #[track_caller]
    pub fn characters(characters: &str) -> Self {
        Self { characters: usd(characters), ..Self::default() }
    }

    /// For a minute.
    #[track_caller]
    pub fn minute(minute: &str) -> Self {
        Self { minute: usd(minute), ..Self::default() }
    }

    /// Exact, then rounded up once to the nano-USD.
    pub fn cost(&self, used: &Used) -> Usd {
        let times = |price: Usd, count: u64| i128::from(price.nano()) * i128::from(count);
        let cached = used.cached.min(used.input);
        let millionths = times(self.input, used.input - cached)
            + times(self.cached, cached)
            + times(self.output, used.output)
            + times(self.characters, used.characters)
            + times(self.call, 1_000_000);
        // A minute has 60 seconds, so all is counted in sixtieths of millionths.
        let parts = millionths * 60 + times(self.minute, used.seconds) * 1_000_000;
        let nano = parts.div_euclid(60_000_000) + i128::from(parts.rem_euclid(60_000_000) != 0);
        Usd::from_nano(i64::try_from(nano).expect("an amount"))
    }
}

#[track_caller]
fn usd(text: &str) -> Usd {
    text.parse().expect("dollars")
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Used {
    /// Tokens of the input, the cached ones included.
    pub input: u64,
    /// Of those, the cached ones.
    pub cached: u64,
    /// Tokens of the output, the reasoning ones included.
    pub output: u64,
    /// Of those, the reasoning ones.
    pub reasoning: u64,
    /// Text that was spoken.
    pub characters: u64,
    /// Sound that was heard.
    pub seconds: u64,
}

/// How a call ended, as the provider sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Not yet.
    Open,
    /// All was written.
    Answered,
    /// The client hung up before.
    Cancelled,
    /// The script wanted it so.
    Cut,
}

/// A call that was begun, and is therefore on the bill.
#[derive(Clone, Debug, Serialize)]
pub struct Billed {
    /// The model, as it was asked for.
    pub model: String,
    /// The path that was asked.
    pub path: String,
    /// So far.
    pub used: Used,
    /// The price that was valid when it began.
    #[serde(skip)]
    pub price: Price,
    /// How it ended.
    pub end: End,
}

impl Billed {
    pub fn cost(&self) -> Usd {
        self.price.cost(&self.used)
    }
}

/// All calls by their numbers, in the order in which they began; or when there
/// are too many, those that go on and the sums of the others.
#[derive(Default)]
pub struct Books {
    pub prices: BTreeMap<String, Price>,
    pub calls: BTreeMap<u64, Billed>,
    begun: u64,
    /// Only sums are kept, because nobody will ask for single calls.
    sums_only: bool,
    sums: BTreeMap<String, Usd>,
}

impl Books {
    pub fn new(sums_only: bool) -> Self {
        Self { sums_only, ..Self::default() }
    }

    /// A call begins; its number.
    pub fn begin(&mut self, model: &str, path: &str, used: Used) -> u64 {
        let price = self.prices.get(model).copied().unwrap_or_default();
        let call = Billed { model: model.to_owned(), path: path.to_owned(), used, price, end: End::Open };
        self.begun += 1;
        self.calls.insert(self.begun, call);
        self.begun
    }

    /// It uses more than it did.
    pub fn uses(&mut self, call: u64, change: impl FnOnce(&mut Used)) {
        if let Some(call) = self.calls.get_mut(&call) {
            change(&mut call.used);
        }
    }

    pub fn end(&mut self, number: u64, end: End) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.end = end;
        if self.sums_only {
            let sum = self.sums.entry(call.model.clone()).or_default();
            *sum = sum.plus(call.cost());
            self.calls.remove(&number);
        }
    }

    /// By model.
    pub fn by_model(&self) -> BTreeMap<String, Usd> {
        let mut sums = self.sums.clone();
        for call in self.calls.values() {
            let sum = sums.entry(call.model.clone()).or_default();
            *sum = sum.plus(call.cost());
        }
        sums
    }

    pub fn total(&self) -> Usd {
        self.by_model().values().fold(Usd::ZERO, |sum, cost| sum.plus(*cost))
    }
}
