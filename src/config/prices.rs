//! The part of `[models]` that says what is taken for a model without a price.

use super::reader::Reader;
use super::sections::key;
use super::setting::Setting;
use crate::money::Usd;

/// What is taken for models whose price is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PricesSection {
    /// US dollars for a million tokens of input and of output; none: calls of
    /// such models are refused.
    pub unknown: Option<(Usd, Usd)>,
}

impl Setting for Usd {
    const EXPECTED: &'static str = "US dollars such as 0.75, with at most nine digits after the point";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl PricesSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let input = key(
            "models.unknown_input_usd",
            "US dollars that a million tokens of input count for a model without a price; such calls are refused when \
             not set.",
        );
        let output = key("models.unknown_output_usd", "The same for a million tokens of output.");
        let unknown = (reader.optional(input), reader.optional(output));
        match unknown {
            (Some(_), None) => fault(reader, "models.unknown_input_usd", "models.unknown_output_usd"),
            (None, Some(_)) => fault(reader, "models.unknown_output_usd", "models.unknown_input_usd"),
            _ => {}
        }
        Self { unknown: unknown.0.zip(unknown.1) }
    }
}

fn fault(reader: &mut Reader<'_>, given: &str, missing: &str) {
    reader.fault_without(given, &[missing], format!("{given} needs {missing} too"));
}
