//! `[models]`: the provider that the configuration names. More of them, and
//! routes of one's own, are kept in the database.

use std::time::Duration;

use super::base_url::BaseUrl;
use super::reader::Reader;
use super::sections::{Secret, aliased, key};
use super::setting::{DAY, INSTANT, MINUTE, SECOND, Setting};

/// What becomes of a call whose client hangs up in the middle of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnHangup {
    /// It is ended at the provider, and settled with what had come.
    #[default]
    Cancel,
    /// It is read to its end, and settled with what the provider counts.
    Drain,
}

impl Setting for OnHangup {
    const EXPECTED: &'static str = "cancel or drain";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "cancel" => Some(Self::Cancel),
            "drain" => Some(Self::Drain),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Cancel => "cancel",
            Self::Drain => "drain",
        }
        .into()
    }
}

/// `[models]`
#[derive(Clone, Debug)]
pub struct ModelsSection {
    /// The key of the provider `openai`.
    pub openai_api_key: Secret,
    /// Where it is, with the path that its routes are below.
    pub openai_base_url: Option<BaseUrl>,
    /// What the alias `default` stands for.
    pub default_model: Option<String>,
    /// What the alias `low-cost` stands for.
    pub low_cost_model: Option<String>,
    /// What the alias `failover` stands for; also tried when `default` fails.
    pub failover_model: Option<String>,
    /// Calls to one provider at a time.
    pub concurrency: usize,
    /// Time to the first byte of a stream.
    pub first_token_time: Duration,
    /// Time for a whole answer.
    pub total_time: Duration,
    /// How often a call is made at one provider.
    pub attempts: usize,
    /// What becomes of a call whose client hangs up.
    pub on_hangup: OnHangup,
    /// How long responses are kept; none: for ever.
    pub keep_responses: Option<Duration>,
}

impl ModelsSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        // Two of the systems before this one have a name each for it.
        let is_set = |name: &str| reader.variable(name).is_some();
        let older = !is_set("OPENAI_DEFAULT_MODEL") && is_set("OPENAI_MODEL");
        let default = if older { "OPENAI_MODEL" } else { "OPENAI_DEFAULT_MODEL" };
        Self {
            openai_api_key: Secret::read(
                reader,
                aliased("models.openai_api_key", "OPENAI_API_KEY", "The key for the provider named openai."),
                key("models.openai_api_key_file", "A file that holds it."),
            ),
            openai_base_url: reader.optional(aliased(
                "models.openai_base_url",
                "OPENAI_BASE_URL",
                "Where that provider is, such as http://127.0.0.1:11434/v1; https://api.openai.com/v1 when only a key is set.",
            )),
            default_model: reader.optional(aliased(
                "models.default_model",
                default,
                "The model that the alias default stands for.",
            )),
            low_cost_model: reader.optional(aliased(
                "models.low_cost_model",
                "OPENAI_LOW_COST_MODEL",
                "The model that the alias low-cost stands for.",
            )),
            failover_model: reader.optional(aliased(
                "models.failover_model",
                "OPENAI_FAILOVER_MODEL",
                "The model that the alias failover stands for, tried too when the default one fails.",
            )),
            concurrency: reader.value(key("models.concurrency", "Calls to one provider at a time."), 512),
            first_token_time: reader.span(
                key("models.first_token_time", "Time to the first byte of an answer that is streamed."),
                MINUTE,
                INSTANT..=DAY,
            ),
            total_time: reader.span(
                key("models.total_time", "Time for a whole answer of a model."),
                Duration::from_secs(600),
                INSTANT..=DAY,
            ),
            attempts: reader.value(
                key("models.attempts", "How often a call that fails is made at one provider before another is asked."),
                3,
            ),
            on_hangup: reader.value(
                key(
                    "models.on_hangup",
                    "When a client hangs up in the middle of a stream: cancel the call, or drain it to know its price.",
                ),
                OnHangup::Cancel,
            ),
            keep_responses: reader.span_or_off(
                key("models.keep_responses", "How long responses are kept: a span such as 30d, or off for ever."),
                30 * DAY,
                SECOND,
            ),
        }
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if !(1..=100_000).contains(&self.concurrency) {
            reader.fault_at_key("models.concurrency", "models.concurrency must be from 1 to 100000".into());
        }
        if !(1..=10).contains(&self.attempts) {
            reader.fault_at_key("models.attempts", "models.attempts must be from 1 to 10".into());
        }
        if let Some(doubt) = self.openai_base_url.as_ref().and_then(BaseUrl::doubt) {
            reader.warn(format!("models.openai_base_url: {doubt}"));
        }
        match self.openai_api_key.resolve() {
            // It is sent as a header.
            Ok(Some(text)) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => reader
                .fault_at_key("models.openai_api_key", "models.openai_api_key holds characters that no key has".into()),
            Ok(_) => {}
            Err(fault) => reader.fault_at_key("models.openai_api_key_file", fault),
        }
        let names = [
            ("models.default_model", &self.default_model),
            ("models.low_cost_model", &self.low_cost_model),
            ("models.failover_model", &self.failover_model),
        ];
        let named: Vec<_> = names.iter().filter(|(_, model)| model.is_some()).map(|(key, _)| *key).collect();
        if let Some(key) = named.first().filter(|_| !self.has_provider()) {
            let what = format!("{key} needs models.openai_api_key or models.openai_base_url too");
            reader.fault_without(key, &["models.openai_api_key", "models.openai_base_url"], what);
        }
    }

    /// Whether a provider is configured.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        self.openai_api_key.is_set() || self.openai_base_url.is_some()
    }
}
