//! Names of responses.

use std::fmt;

use uuid::Uuid;

use crate::id::row_number;

const PREFIX: &str = "resp_";

/// A response's id: `resp_` and a UUID in 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResponseId(pub Uuid);

impl ResponseId {
    /// Reads what [`Display`](fmt::Display) writes; anything else is no id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_digits(text.strip_prefix(PREFIX)?)
    }

    fn of_digits(digits: &str) -> Option<Self> {
        let plain = digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| Uuid::try_parse(digits).ok().map(Self))?
    }

    /// Its row number.
    #[must_use]
    pub fn no(self) -> i64 {
        row_number(self.0)
    }

    /// The response that an id is of a part of; `None` for ids that others have made.
    pub(super) fn of_part(part: &str) -> Option<Self> {
        let (_, rest) = part.split_once('_')?;
        let (digits, place) = rest.split_once('_')?;
        let is_place = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
        is_place.then(|| Self::of_digits(digits))?
    }

    /// The id of a part of it, such as `msg_…_0` for its first output item.
    pub(super) fn part(self, prefix: &str, place: impl fmt::Display) -> String {
        format!("{prefix}_{}_{place}", self.0.simple())
    }
}

impl fmt::Display for ResponseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_not_otherwise() {
        let id = ResponseId(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "resp_00000000000000000000000000000007");
        assert_eq!(ResponseId::parse(&id.to_string()), Some(id));
        for wrong in
            ["", "resp_", "resp_7", "00000000000000000000000000000007", "resp_0000000000000000000000000000000G"]
        {
            assert_eq!(ResponseId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ResponseId::parse(&format!("resp_{}", id.0)), None, "with hyphens");
        assert_eq!(ResponseId::of_part(&id.part("msg", 12)), Some(id));
        let digits = id.0.simple();
        for wrong in [format!("msg_{digits}"), format!("msg_{digits}_"), format!("msg_{digits}_a"), "msg_1_2".into()] {
            assert_eq!(ResponseId::of_part(&wrong), None, "{wrong}");
        }
    }
}
