//! Lists as `OpenAI`'s interface gives them: `?after=&limit=` →
//! `{object, data, first_id, last_id, has_more}`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::http::Problem;
use crate::http::openapi::Operation;
use crate::http::query::Query;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paging<Id> {
    /// Rows at most.
    pub limit: usize,
    /// The row to go on behind.
    pub after: Option<Id>,
}

impl<Id> Paging<Id> {
    /// Takes `after` and `limit` out of the query.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub(super) fn take(
        query: &mut Query,
        parse: impl Fn(&str) -> Option<Id>,
        usual: usize,
        most: usize,
    ) -> Result<Self, Problem> {
        let limit = query.whole("limit", 1..=most)?.unwrap_or(usual);
        let after = query.text("after").map(|text| {
            parse(&text).ok_or_else(|| Problem::invalid("?after", format!("{text:?} is no id of this list")))
        });
        Ok(Self { limit, after: after.transpose()? })
    }
}

impl Paging<()> {
    /// The parameters, for clients.
    pub(super) fn describe(it: Operation, usual: usize, most: usize) -> Operation {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": most, "default": usual });
        it.query("limit", "Rows at most.", limit).query(
            "after",
            "`last_id` of the page before; left out for the first page.",
            json!({ "type": "string" }),
        )
    }
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(super) struct List<T> {
    #[schemars(extend("const" = "list"))]
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    /// What to send as `after` for the next page.
    last_id: Option<String>,
    has_more: bool,
}

impl<T> List<T> {
    /// A page from up to `limit + 1` rows: the extra one only tells that there
    /// are more.
    pub(super) fn from_one_more<R: Into<T>>(mut rows: Vec<R>, limit: usize, id: impl Fn(&R) -> String) -> Self {
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let (first_id, last_id) = (rows.first().map(&id), rows.last().map(&id));
        Self { object: "list", data: rows.into_iter().map(Into::into).collect(), first_id, last_id, has_more }
    }
}
