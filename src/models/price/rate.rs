//! What a model's tokens cost, and what is known of its bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budgets::Tokens;
use crate::clock::Timestamp;
use crate::models::tokens::Vocabulary;
use crate::models::usage::Usage;
use crate::money::Usd;

/// Tokens, and characters, that a price is for.
const MILLION: i128 = 1_000_000;
/// Seconds in a minute, which audio is paid by.
const MINUTE: i128 = 60;

/// A price as people write it: US dollars as decimal text. What is left out is
/// not known, or not paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModelPriceRates")]
pub struct Sheet {
    /// The moment that it counts from; from ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<Timestamp>,
    /// A million tokens of input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_usd_per_million: Option<Usd>,
    /// A million tokens of input that the provider had cached; as other input
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_usd_per_million: Option<Usd>,
    /// A million tokens of input that the provider writes into its cache, as its
    /// answer counts them; as other input when left out. What an answer may cost
    /// at most is reckoned with the greater of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_usd_per_million: Option<Usd>,
    /// A million tokens of output, reasoning included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_usd_per_million: Option<Usd>,
    /// A million tokens of audio that is sent. Answers do not part them from text
    /// everywhere, so all input is counted at the greater of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input_usd_per_million: Option<Usd>,
    /// A million tokens of audio that is made; all output is counted at the
    /// greater of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output_usd_per_million: Option<Usd>,
    /// A minute of audio, for models that are paid by time. Their input is then
    /// counted in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_usd_per_minute: Option<Usd>,
    /// A million characters, for models that are paid by them. Their input is
    /// then counted in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub characters_usd_per_million: Option<Usd>,
    /// Each call, besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_usd: Option<Usd>,
    /// Other prices for calls with much input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_context: Option<LongContext>,
    /// Tokens that input and output may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_TOKENS))]
    pub context_tokens: Option<u64>,
    /// Tokens that one output may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_TOKENS))]
    pub output_tokens: Option<u64>,
    /// Tokens that one image is counted as, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MOST_TOKENS))]
    pub image_tokens: Option<u64>,
    /// Whether the model writes output that is paid for and not shown. A stream
    /// that breaks off is then settled with all that was reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
}

/// Prices of calls whose input is longer than so much; they count for all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ModelPriceLongContext")]
pub struct LongContext {
    /// Input of more tokens than these.
    #[schemars(range(max = MOST_TOKENS))]
    pub above_tokens: u64,
    /// A million tokens of input.
    pub input_usd_per_million: Usd,
    /// A million tokens of input that the provider had cached; as other input
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_usd_per_million: Option<Usd>,
    /// A million tokens of input that the provider puts into its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_usd_per_million: Option<Usd>,
    /// A million tokens of output.
    pub output_usd_per_million: Usd,
}

/// More is a mistake.
pub(super) const MOST_TOKENS: u64 = 1_000_000_000;

/// What a model's input is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens.
    Token,
    /// Seconds of audio.
    Second,
    /// Characters of text.
    Character,
}

/// Nano-USD for a million tokens or characters, or for a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    input: Usd,
    cached: Usd,
    cache_write: Usd,
    output: Usd,
}

/// What one model costs from one moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    unit: Unit,
    rates: Rates,
    long: Option<(u64, Rates)>,
    call: Usd,
    pays_output: bool,
    audio: bool,
    reasons: bool,
    context: Option<u64>,
    output: Option<u64>,
    image: Option<u64>,
    vocabulary: Vocabulary,
}

/// Why a sheet is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NoPrice {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Price {
    /// The price that a sheet says, for a model with this vocabulary.
    ///
    /// # Errors
    /// When the sheet says nothing that could be paid by, or contradicts itself.
    pub fn new(sheet: &Sheet, vocabulary: Vocabulary) -> Result<Self, NoPrice> {
        let given = [sheet.input_usd_per_million, sheet.audio_usd_per_minute, sheet.characters_usd_per_million];
        let unit = match given {
            [Some(_), None, None] => Unit::Token,
            [None, Some(_), None] => Unit::Second,
            [None, None, Some(_)] => Unit::Character,
            _ => {
                let problem = "exactly one of input_usd_per_million, audio_usd_per_minute and \
                               characters_usd_per_million must be given";
                return Err(NoPrice { field: "input_usd_per_million", problem });
            }
        };
        sheet.check()?;
        let listed = given.into_iter().flatten().next().unwrap_or_default();
        let greater = |one: Usd, other: Option<Usd>| one.max(other.unwrap_or_default());
        let audio_input = sheet.audio_input_usd_per_million;
        let input = greater(listed, audio_input);
        let cached = greater(sheet.cached_input_usd_per_million.unwrap_or(input), audio_input);
        let cache_write = greater(sheet.cache_write_usd_per_million.unwrap_or(input), audio_input);
        let audio_output = sheet.audio_output_usd_per_million;
        let output = greater(sheet.output_usd_per_million.unwrap_or_default(), audio_output);
        let rates = Rates { input, cached, cache_write, output };
        Ok(Self {
            unit,
            rates,
            long: sheet.long_context.as_ref().map(|long| (long.above_tokens, long.rates(rates))),
            call: sheet.call_usd.unwrap_or_default(),
            pays_output: sheet.output_usd_per_million.or(audio_output).is_some(),
            audio: audio_input.or(audio_output).is_some(),
            reasons: sheet.reasoning.unwrap_or(false),
            context: sheet.context_tokens,
            output: sheet.output_tokens,
            image: sheet.image_tokens,
            vocabulary,
        })
    }

    /// What is taken for models without a price of their own, where the
    /// configuration says so: nothing else is known of them.
    #[must_use]
    pub fn ceiling(input: Usd, output: Usd) -> Self {
        Self {
            unit: Unit::Token,
            rates: Rates { input, cached: input, cache_write: input, output },
            long: None,
            call: Usd::ZERO,
            pays_output: true,
            audio: false,
            reasons: true,
            context: None,
            output: None,
            image: None,
            vocabulary: Vocabulary::Unknown,
        }
    }

    /// What so much costs: exact, and rounded up once to the nano-USD.
    #[must_use]
    pub fn cost(&self, usage: impl Into<Usage>) -> Usd {
        let usage = usage.into();
        self.sum(self.rates_for(usage.tokens.input), &usage)
    }

    /// What so much input and output costs at most, whatever of the input the
    /// provider writes into its cache.
    #[must_use]
    pub fn most(&self, input: u64, output: u64) -> Usd {
        let rates = self.rates_for(input);
        let rates = Rates { input: rates.input.max(rates.cache_write), ..rates };
        self.sum(rates, &Tokens { input, output, ..Tokens::default() }.into())
    }

    fn rates_for(&self, input: u64) -> Rates {
        match self.long {
            Some((above, long)) if input > above => long,
            _ => self.rates,
        }
    }

    fn sum(&self, rates: Rates, usage: &Usage) -> Usd {
        let tokens = &usage.tokens;
        let cached = tokens.cached.min(tokens.input);
        let cache_write = usage.cache_write.min(tokens.input - cached);
        // In sixtieths of a millionth of a nano-USD, which all prices are whole multiples of.
        let of = |count: u64, rate: Usd, scale: i128| {
            i128::from(count).saturating_mul(i128::from(rate.nano())).saturating_mul(scale)
        };
        let scale = if self.unit == Unit::Second { MILLION } else { MINUTE };
        let parts = [
            of(tokens.input - cached - cache_write, rates.input, scale),
            of(cached, rates.cached, scale),
            of(cache_write, rates.cache_write, scale),
            of(tokens.output, rates.output, MINUTE),
            of(1, self.call, MILLION * MINUTE),
        ];
        let sum = parts.into_iter().fold(0_i128, i128::saturating_add);
        let whole = sum / (MILLION * MINUTE) + i128::from(sum % (MILLION * MINUTE) > 0);
        i64::try_from(whole).map_or(Usd::MAX, Usd::from_nano)
    }

    /// What its input is counted in.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether it says what output costs.
    #[must_use]
    pub fn pays_output(&self) -> bool {
        self.pays_output
    }

    /// Whether it says what tokens of audio cost.
    #[must_use]
    pub fn pays_audio(&self) -> bool {
        self.audio
    }

    /// Whether the model writes output that is paid for and not shown: then what
    /// a broken stream showed is less than what it cost.
    #[must_use]
    pub fn reasons(&self) -> bool {
        self.reasons
    }

    /// Tokens that input and output may have together.
    #[must_use]
    pub fn context(&self) -> Option<u64> {
        self.context
    }

    /// Tokens that one output may have.
    #[must_use]
    pub fn output(&self) -> Option<u64> {
        self.output
    }

    /// Tokens that one image is counted as, at most.
    #[must_use]
    pub fn image(&self) -> Option<u64> {
        self.image
    }

    /// How the model's text is counted.
    #[must_use]
    pub fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }
}

impl LongContext {
    /// Never less than without it, so that more input never costs less.
    fn rates(&self, base: Rates) -> Rates {
        let input = self.input_usd_per_million.max(base.input);
        Rates {
            input,
            cached: self.cached_input_usd_per_million.unwrap_or(input).max(base.cached),
            cache_write: self.cache_write_usd_per_million.unwrap_or(input).max(base.cache_write),
            output: self.output_usd_per_million.max(base.output),
        }
    }
}

impl Sheet {
    fn check(&self) -> Result<(), NoPrice> {
        let fault = |field, problem| Err(NoPrice { field, problem });
        let above = |one: Option<Usd>, other: Option<Usd>| one.zip(other).is_some_and(|(one, other)| one > other);
        if above(self.cached_input_usd_per_million, self.input_usd_per_million) {
            return fault("cached_input_usd_per_million", "must not be more than input_usd_per_million");
        }
        let limits = [
            ("context_tokens", self.context_tokens, 1),
            ("output_tokens", self.output_tokens, 1),
            ("image_tokens", self.image_tokens, 0),
            ("long_context/above_tokens", self.long_context.as_ref().map(|long| long.above_tokens), 0),
        ];
        for (field, tokens, least) in limits {
            if tokens.is_some_and(|tokens| !(least..=MOST_TOKENS).contains(&tokens)) {
                return fault(
                    field,
                    if least == 0 {
                        "must be a whole number from 0 to 1000000000"
                    } else {
                        "must be a whole number from 1 to 1000000000"
                    },
                );
            }
        }
        if self.long_context.is_some() && self.input_usd_per_million.is_none() {
            return fault("long_context", "needs input_usd_per_million");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "prices in a sheet are optional")]
    fn usd(text: &str) -> Option<Usd> {
        Some(text.parse().expect(text))
    }

    fn tokens(input: u64, cached: u64, output: u64) -> Tokens {
        Tokens { input, cached, output, reasoning: 0 }
    }

    fn gpt_4o_mini() -> Price {
        let sheet = Sheet {
            input_usd_per_million: usd("0.15"),
            cached_input_usd_per_million: usd("0.075"),
            output_usd_per_million: usd("0.6"),
            ..Sheet::default()
        };
        Price::new(&sheet, Vocabulary::O200k).expect("a price")
    }

    #[test]
    fn a_call_costs_what_its_tokens_cost() {
        let price = gpt_4o_mini();
        assert_eq!(price.cost(tokens(1000, 0, 500)).to_string(), "0.00045");
        assert_eq!(price.cost(tokens(1000, 400, 500)).to_string(), "0.00042");
        // More cached than sent is all of it cached.
        assert_eq!(price.cost(tokens(1000, 4000, 0)).to_string(), "0.000075");
        assert_eq!(price.cost(tokens(0, 0, 0)), Usd::ZERO);
        assert_eq!(price.cost(tokens(u64::MAX, 0, u64::MAX)), Usd::MAX);
    }

    #[test]
    fn a_part_of_a_nano_is_rounded_up_once() {
        let sheet = Sheet {
            input_usd_per_million: Some(Usd::from_nano(1)),
            output_usd_per_million: Some(Usd::from_nano(1)),
            ..Sheet::default()
        };
        let price = Price::new(&sheet, Vocabulary::Unknown).expect("a price");
        assert_eq!(price.cost(tokens(1, 0, 1)), Usd::from_nano(1));
        assert_eq!(price.cost(tokens(500_000, 0, 500_000)), Usd::from_nano(1));
        assert_eq!(price.cost(tokens(500_000, 0, 500_001)), Usd::from_nano(2));
    }

    #[test]
    fn audio_is_paid_by_the_second_and_speech_by_the_character() {
        let audio = Sheet { audio_usd_per_minute: usd("0.006"), ..Sheet::default() };
        let audio = Price::new(&audio, Vocabulary::Unknown).expect("a price");
        assert_eq!((audio.unit(), audio.cost(tokens(90, 0, 0)).to_string().as_str()), (Unit::Second, "0.009"));
        let speech = Sheet { characters_usd_per_million: usd("15"), call_usd: usd("0.01"), ..Sheet::default() };
        let speech = Price::new(&speech, Vocabulary::Unknown).expect("a price");
        assert_eq!(speech.cost(tokens(100, 0, 0)).to_string(), "0.0115");
    }

    #[test]
    fn long_input_has_prices_of_its_own() {
        let long = LongContext {
            above_tokens: 200_000,
            input_usd_per_million: Usd::from_nano(2_500_000_000),
            cached_input_usd_per_million: None,
            cache_write_usd_per_million: None,
            output_usd_per_million: Usd::from_nano(15_000_000_000),
        };
        let sheet = Sheet {
            input_usd_per_million: usd("1.25"),
            output_usd_per_million: usd("10"),
            long_context: Some(long),
            ..Sheet::default()
        };
        let price = Price::new(&sheet, Vocabulary::Unknown).expect("a price");
        assert_eq!(price.cost(tokens(200_000, 0, 0)).to_string(), "0.25");
        assert_eq!(price.cost(tokens(200_001, 0, 1)).to_string(), "0.5000175");
    }

    #[test]
    fn what_the_answer_does_not_tell_is_counted_at_the_greater_price() {
        let sheet = Sheet {
            input_usd_per_million: usd("4"),
            output_usd_per_million: usd("10"),
            audio_output_usd_per_million: usd("64"),
            ..Sheet::default()
        };
        let price = Price::new(&sheet, Vocabulary::Unknown).expect("a price");
        assert_eq!(price.cost(tokens(1_000_000, 0, 1_000_000)).to_string(), "68");
    }

    #[test]
    fn only_what_was_written_into_the_cache_is_priced_so() {
        let sheet = Sheet {
            input_usd_per_million: usd("4"),
            cached_input_usd_per_million: usd("1"),
            cache_write_usd_per_million: usd("5"),
            output_usd_per_million: usd("10"),
            ..Sheet::default()
        };
        let price = Price::new(&sheet, Vocabulary::Unknown).expect("a price");
        let cost =
            |cached, cache_write| price.cost(Usage { tokens: tokens(1_000_000, cached, 0), cache_write }).to_string();
        assert_eq!((cost(0, 0).as_str(), cost(0, 1_000_000).as_str()), ("4", "5"));
        assert_eq!(cost(500_000, 250_000), "2.75");
        // Before the answer nobody knows.
        assert_eq!(price.most(1_000_000, 0).to_string(), "5");
        let cheaper = Sheet { cache_write_usd_per_million: usd("3"), ..sheet };
        let price = Price::new(&cheaper, Vocabulary::Unknown).expect("a price");
        assert_eq!(price.most(1_000_000, 0).to_string(), "4");
        assert_eq!(price.cost(Usage { tokens: tokens(1_000_000, 0, 0), cache_write: 1_000_000 }).to_string(), "3");
    }

    #[test]
    fn a_sheet_without_a_price_is_none() {
        let none = Price::new(&Sheet::default(), Vocabulary::Unknown).expect_err("nothing is said");
        assert_eq!(none.field, "input_usd_per_million");
        let two = Sheet { input_usd_per_million: usd("1"), audio_usd_per_minute: usd("1"), ..Sheet::default() };
        assert!(Price::new(&two, Vocabulary::Unknown).is_err());
        let cached =
            Sheet { input_usd_per_million: usd("1"), cached_input_usd_per_million: usd("2"), ..Sheet::default() };
        assert_eq!(
            Price::new(&cached, Vocabulary::Unknown).expect_err("too much").field,
            "cached_input_usd_per_million"
        );
        let huge = Sheet { input_usd_per_million: usd("1"), output_tokens: Some(u64::MAX), ..Sheet::default() };
        assert_eq!(Price::new(&huge, Vocabulary::Unknown).expect_err("too much").field, "output_tokens");
    }

    proptest! {
        #[test]
        fn the_cost_is_the_sum_of_its_parts_and_less_than_a_nano_more(
            input in 0..10_000_000_u64, cached in 0..10_000_000_u64, output in 0..10_000_000_u64,
        ) {
            let cost = i128::from(gpt_4o_mini().cost(tokens(input, cached, output)).nano()) * 1_000_000;
            let cached = i128::from(cached.min(input));
            let parts = (i128::from(input) - cached) * 150_000_000 + cached * 75_000_000 + i128::from(output) * 600_000_000;
            prop_assert!(cost >= parts && cost - parts < 1_000_000);
        }

        #[test]
        fn more_never_costs_less(
            input in 0..2_000_000_u64, output in 0..1_000_000_u64, more in 0..2_000_000_u64,
        ) {
            let prices = crate::models::price::Prices::shipped();
            for model in ["gpt-4o-mini", "gpt-5.4", "gemini-2.5-pro", "claude-sonnet-4-5"] {
                let price = prices.of("", model).expect(model);
                let less = price.cost(tokens(input, 0, output));
                prop_assert!(price.cost(tokens(input + more, 0, output)) >= less);
                prop_assert!(price.cost(tokens(input, 0, output + more)) >= less);
                prop_assert!(price.cost(tokens(input, input / 2, output)) <= less);
            }
        }
    }
}
