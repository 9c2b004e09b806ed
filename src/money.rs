//! Money: integer nano-USD, so that sums are exact.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-USD in a US dollar.
const DOLLAR: i64 = 1_000_000_000;
/// Digits after the point.
const DIGITS: usize = 9;

/// An amount in nano-USD (10⁻⁹ US dollars). As text it is decimal dollars
/// without needless zeros, such as `0.75`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than anything costs; a sum that would be more stays here.
    pub const MAX: Self = Self(i64::MAX);

    /// So many nano-USD.
    #[must_use]
    pub const fn from_nano(nano: i64) -> Self {
        Self(nano)
    }

    /// In nano-USD.
    #[must_use]
    pub const fn nano(self) -> i64 {
        self.0
    }

    /// The sum; at the bounds of the type it stays there.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; at the bounds of the type it stays there.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// For metrics, which are in dollars and not exact.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a metric need not be exact")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / DOLLAR as f64
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be US dollars such as \"0.75\", with at most nine digits after the point")]
pub struct NoAmount;

impl FromStr for Usd {
    type Err = NoAmount;

    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
            return Err(NoAmount);
        }
        let nano: i64 = format!("{fraction:0<DIGITS$}").parse().map_err(|_| NoAmount)?;
        let whole: i64 = whole.parse().map_err(|_| NoAmount)?;
        whole.checked_mul(DOLLAR).and_then(|whole| whole.checked_add(nano)).map(Self).ok_or(NoAmount)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nano) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, fraction) = (nano / DOLLAR.unsigned_abs(), nano % DOLLAR.unsigned_abs());
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:0DIGITS$}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("US dollars as a string such as \"0.75\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Usd, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Amount)
    }
}

impl schemars::JsonSchema for Usd {
    fn schema_name() -> Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "US dollars, exact to nine digits after the point.",
            "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_decimal_dollars() {
        for (text, nano) in [("0", 0), ("0.75", 750_000_000), ("50", 50 * DOLLAR), ("1.000000001", DOLLAR + 1)] {
            let amount: Usd = text.parse().expect(text);
            assert_eq!((amount.nano(), amount.to_string().as_str()), (nano, text));
        }
        assert_eq!(Usd::from_nano(-1_500_000_000).to_string(), "-1.5");
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0.0000000001", "99999999999", " 1", "١"] {
            assert_eq!(text.parse::<Usd>(), Err(NoAmount), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nano in 0..=i64::MAX) {
            let amount = Usd::from_nano(nano);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }
    }
}
