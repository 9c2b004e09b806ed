//! Lists: `?limit=&cursor=` → `{data, next_cursor}`.

use schemars::JsonSchema;
use serde::Serialize;

use super::Problem;
use super::query::Query;

/// Rows on a page when nobody says how many.
pub(super) const DEFAULT_LIMIT: usize = 50;
/// Rows on a page at most.
pub(super) const MAX_LIMIT: usize = 200;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Rows at most.
    pub limit: usize,
    /// The row number to go on from, in the list's order.
    pub after: Option<i64>,
}

impl PageRequest {
    /// Takes `limit` and `cursor` out of the query.
    ///
    /// # Errors
    /// When one of them is not what a list gave out.
    pub fn take(query: &mut Query) -> Result<Self, Problem> {
        let limit = query.whole("limit", 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let cursor = query.text("cursor");
        let after = cursor.map(|cursor| decode(&cursor)).transpose()?;
        Ok(Self { limit, after })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// What to send as `cursor` for the rows after these; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page after which the list goes on behind row `next`.
    #[must_use]
    pub fn new(data: Vec<T>, next: Option<i64>) -> Self {
        Self { data, next_cursor: next.map(encode) }
    }

    /// A page from up to `limit + 1` rows: the extra one only tells that there
    /// are more.
    pub fn from_one_more(mut rows: Vec<T>, limit: usize, number: impl Fn(&T) -> i64) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(number) } else { None };
        Self::new(rows, next)
    }

    /// The same page of another type.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

fn encode(number: i64) -> String {
    format!("c{number:x}")
}

fn decode(cursor: &str) -> Result<i64, Problem> {
    let digits = cursor.strip_prefix('c').filter(|digits| !digits.starts_with(['+', '-']));
    let number = digits.and_then(|digits| i64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| {
        Problem::invalid("?cursor", "not a cursor")
            .with_hint("send next_cursor of the page before as it is, or nothing for the first page")
    })
}
