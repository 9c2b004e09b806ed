//! Validation errors with their JSON pointers.

use serde_json::Value;

use super::super::merge::is_nothing;
use crate::http::Problem;

/// What only a provider with this interface can do.
pub(super) fn only_there(place: impl Into<String>, what: &str) -> Problem {
    let detail = format!("{what} is not possible with this model, whose provider speaks chat completions only");
    Problem::invalid(place, detail)
}

/// What is wrong with an item, a tool or a part, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    place: String,
    detail: String,
    /// Whether a provider with this interface could do it.
    only_there: bool,
    /// Whether it is an unknown member.
    is_unknown: bool,
}

pub(super) type Checked<T> = Result<T, Wrong>;

impl Wrong {
    pub fn new(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: place.into(), detail: detail.into(), only_there: false, is_unknown: false }
    }

    pub fn only_there(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { only_there: true, ..Self::new(place, what) }
    }

    /// The same, with its pointer below `place`.
    pub fn within(self, place: &str) -> Self {
        Self { place: format!("{place}{}", self.place), ..self }
    }

    /// Removes the unknown member that this is about; whether it is about one.
    pub fn take_out(&self, of: &mut Value) -> bool {
        let Some((parent, name)) = self.place.rsplit_once('/').filter(|_| self.is_unknown) else { return false };
        let fields = of.pointer_mut(parent).and_then(Value::as_object_mut);
        fields.and_then(|fields| fields.remove(&name.replace("~1", "/").replace("~0", "~"))).is_some()
    }

    /// The error for the client.
    pub fn problem(self, place: &str) -> Problem {
        let place = format!("{place}{}", self.place);
        if self.only_there { only_there(place, &self.detail) } else { Problem::invalid(place, self.detail) }
    }
}

/// Refuses unknown members, which would be lost. Null and empty ones are ignored.
pub(super) fn only(value: &Value, known: &[&str], what: &str) -> Checked<()> {
    let fields = value.as_object().ok_or_else(|| Wrong::new("", "must be an object"))?;
    let lost = fields.iter().find(|(name, value)| !known.contains(&name.as_str()) && !is_nothing(value));
    lost.map_or(Ok(()), |(name, _)| {
        let place = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        Err(Wrong { is_unknown: true, ..Wrong::only_there(place, format!("{name:?} of {what}")) })
    })
}

/// Refuses members that turn on something that is not possible.
pub(super) fn never(value: &Value, names: &[&str], what: &str) -> Checked<()> {
    let set = names.iter().find(|name| value.get(**name).is_some_and(|it| !is_nothing(it) && *it != false));
    set.map_or(Ok(()), |name| Err(Wrong::only_there(format!("/{name}"), format!("{name:?} of {what}"))))
}

/// A member that must be a text.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Checked<&'a str> {
    value[name].as_str().ok_or_else(|| Wrong::new(format!("/{name}"), "must be a text"))
}

/// A member that is there and not null.
pub(super) fn given<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).filter(|value| !value.is_null())
}
