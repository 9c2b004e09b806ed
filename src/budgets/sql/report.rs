//! What was spent, grouped as somebody asks.

use uuid::Uuid;

use crate::db::{Error, Row, RowError, Tx, params};
use crate::limits::Day;
use crate::money::Usd;

/// What a report has a line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::budgets) enum Group {
    Day,
    Tenant,
    Key,
    Session,
    Job,
    Tool,
    Model,
    Provider,
    Purpose,
}

impl Group {
    pub const ALL: [Self; 9] = [
        Self::Day,
        Self::Tenant,
        Self::Key,
        Self::Session,
        Self::Job,
        Self::Tool,
        Self::Model,
        Self::Provider,
        Self::Purpose,
    ];

    /// As asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Session => "session",
            Self::Job => "job",
            Self::Tool => "tool",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Purpose => "purpose",
        }
    }

    /// Whether only the calls themselves know it, and not the sums by day.
    const fn is_of_calls(self) -> bool {
        matches!(self, Self::Session | Self::Job | Self::Tool)
    }

    const fn of_sums(self) -> &'static str {
        match self {
            Self::Day => "s.day",
            Self::Tenant => "t.id",
            Self::Key => "nullif(s.key_id, '')",
            Self::Model => "s.model",
            Self::Provider => "s.provider",
            Self::Purpose => "s.purpose",
            Self::Session | Self::Job | Self::Tool => "NULL",
        }
    }

    const fn of_calls(self) -> &'static str {
        match self {
            Self::Day => "s.settled_at / 86400000000",
            Self::Key => "s.key_id",
            Self::Session => "s.session",
            Self::Job => "j.id",
            Self::Tool => "j.tool",
            other => other.of_sums(),
        }
    }
}

/// A line of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::budgets) struct Reported {
    /// In the order that was asked for; `None` where a call has none.
    pub groups: Vec<Option<String>>,
    pub calls: u64,
    /// Input, cached, output, reasoning.
    pub tokens: [u64; 4],
    pub cost: Usd,
}

fn reported(row: &Row<'_>, by: &[Group]) -> Result<Reported, RowError> {
    let group = |(column, group): (usize, &Group)| match group {
        Group::Day => Ok(Some(Day(row.get(column)?).date())),
        Group::Job => Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(|id| Uuid::from_bytes(id).to_string())),
        _ => row.get(column),
    };
    let count = |column: usize| row.get::<_, i64>(by.len() + column).map(|sum| u64::try_from(sum).unwrap_or(0));
    Ok(Reported {
        groups: by.iter().enumerate().map(group).collect::<Result<_, RowError>>()?,
        calls: count(0)?,
        tokens: [count(1)?, count(2)?, count(3)?, count(4)?],
        cost: Usd::from_nano(row.get(by.len() + 5)?),
    })
}

/// What was spent from one day to another, both included; of all tenants when
/// none is named. Asked for by session or job it is read from the calls, which
/// are not kept for ever.
pub(in crate::budgets) fn report(
    tx: &Tx<'_>,
    tenant: Option<i64>,
    (from, to): (Day, Day),
    by: &[Group],
    limit: usize,
) -> Result<Vec<Reported>, Error> {
    let of_calls = by.iter().any(|group| group.is_of_calls());
    let column = |group: &Group| if of_calls { group.of_calls() } else { group.of_sums() };
    let groups: String = by.iter().flat_map(|group| [column(group), ", "]).collect();
    let numbers: Vec<String> = (1..=by.len()).map(|number| number.to_string()).collect();
    let numbers = numbers.join(", ");
    let grouped = if by.is_empty() { String::new() } else { format!("GROUP BY {numbers} ORDER BY {numbers}") };
    let sum = |column: &str| format!("coalesce(sum(s.{column}), 0)");
    let tokens = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"].map(sum).join(", ");
    let sql = if of_calls {
        format!(
            "SELECT {groups} count(*), {tokens}, {cost} FROM model_calls s LEFT JOIN tenants t ON t.no = s.tenant_no
             LEFT JOIN jobs j ON j.no = s.job_no
             WHERE s.no >= ?4 AND s.settled_at >= ?2 * 86400000000
                 AND s.settled_at < (?3 + 1) * 86400000000 AND (?1 IS NULL OR s.tenant_no = ?1) {grouped} LIMIT ?5",
            cost = sum("cost")
        )
    } else {
        format!(
            "SELECT {groups} {calls}, {tokens}, {cost} FROM spend_daily s LEFT JOIN tenants t ON t.no = s.tenant_no
             WHERE s.day >= ?2 AND s.day <= ?3 AND (?1 IS NULL OR s.tenant_no = ?1) AND ?4 >= 0 {grouped} LIMIT ?5",
            calls = sum("calls"),
            cost = sum("nano")
        )
    };
    // A call may have begun on the day before it was settled.
    let first = crate::id::first_row_number(Day((from.0 - 1).max(0)).begin());
    tx.all(&sql, params![tenant, from.0, to.0, first, limit], |row| reported(row, by))
}
