//! What was spent, by day, key, model and more: for a tenant, and over all of
//! them; as JSON and as CSV.

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Budgets;
use super::sql::{self, Group, Reported};
use crate::auth::{Admin, Caller, UsageRead};
use crate::db::Tx;
use crate::http::header::prefers;
use crate::http::openapi::{Answer, Operation};
use crate::http::query::Query;
use crate::http::{Problem, Routes};
use crate::limits::Day;
use crate::money::Usd;
use crate::tenants;

/// Days that are shown when nobody says from when.
const USUAL_DAYS: i64 = 30;
/// Days that are shown at most.
const MOST_DAYS: i64 = 400;
/// Lines that a report has at most.
const MOST_ROWS: usize = 10_000;

/// Adds the routes of this file.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .with(Method::GET, "/v1/usage/spend", own, |it| said(it.named("getSpend", "Get what your calls have cost")))
        .with(Method::GET, "/admin/tenants/{id}/usage/spend", of_tenant, |it| {
            said(it.named("getSpendOfTenant", "Get what a tenant's calls have cost"))
        })
        .with(Method::GET, "/admin/usage/spend", of_all, |it| {
            said(it.named("getSpendOfAll", "Get what the calls of all tenants have cost"))
        })
}

fn said(it: Operation) -> Operation {
    let date = || json!({ "type": "string", "format": "date" });
    let names = Group::ALL.map(Group::name).join("|");
    let more = Group::ALL.len() - 1;
    let by = json!({ "type": "string", "pattern": format!("^({names})(,({names})){{0,{more}}}$"), "default": "day" });
    it.about(
        "What calls of models have used and cost, up to this moment. Days are those of UTC; at most 400 are shown, and \
         30 when `from` is left out. By `session`, `job` and `tool` it reaches back as far as single calls are \
         kept (`budget.keep_calls`). With `Accept: text/csv` or `format=csv` it comes as a table with a head.",
    )
    .query("from", "The first day.", date())
    .query("to", "The last day; today when left out.", date())
    .query("by", "What there is a line for, parted by commas and each named once.", by)
    .query("format", "`json`, unless the `Accept` header asks for CSV.", json!({ "enum": ["json", "csv"] }))
    .answer(StatusCode::OK, Answer::json::<SpendView>("Lines and their total.").or_text("text/csv"))
}

type Service = web::Data<Budgets>;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Spend")]
struct SpendView {
    #[schemars(extend("format" = "date"))]
    from: String,
    #[schemars(extend("format" = "date"))]
    to: String,
    data: Vec<LineView>,
    total: CountsView,
}

/// A line has what was asked for in `by`, where its calls have it.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "SpendLine")]
struct LineView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date"))]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// Left out also when the job was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// The tool of the job; left out where there is none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// What the calls were for, such as `chat.completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[serde(flatten)]
    counts: CountsView,
}

#[derive(Clone, Copy, Default, Serialize, JsonSchema)]
#[schemars(rename = "SpendCounts")]
struct CountsView {
    calls: u64,
    /// The cached ones included.
    input_tokens: u64,
    cached_tokens: u64,
    /// The reasoning ones included.
    output_tokens: u64,
    reasoning_tokens: u64,
    cost_usd: Usd,
}

impl CountsView {
    fn of(line: &Reported) -> Self {
        let [input_tokens, cached_tokens, output_tokens, reasoning_tokens] = line.tokens;
        Self { calls: line.calls, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_usd: line.cost }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            cost_usd: self.cost_usd.plus(other.cost_usd),
        }
    }
}

/// What somebody wants to know.
struct Asked {
    from: Day,
    to: Day,
    by: Vec<Group>,
    csv: bool,
}

impl Asked {
    fn of(request: &HttpRequest, today: Day) -> Result<Self, Problem> {
        let mut query = Query::of(request)?;
        let to = day(&mut query, "to")?.unwrap_or(today);
        let from = day(&mut query, "from")?.unwrap_or(Day((to.0 - USUAL_DAYS + 1).max(0)));
        let by = groups(query.text("by").as_deref().unwrap_or("day"))?;
        let csv = match query.text("format").as_deref() {
            None => accepts_csv(request),
            Some("json") => false,
            Some("csv") => true,
            Some(_) => return Err(Problem::invalid("?format", "must be one of json, csv")),
        };
        query.finish(&["from", "to", "by", "format"])?;
        if from > to {
            return Err(Problem::invalid("?from", "lies after to"));
        }
        if to.0 - from.0 >= MOST_DAYS {
            return Err(Problem::invalid("?from", format!("at most {MOST_DAYS} days are shown at a time")));
        }
        Ok(Self { from, to, by, csv })
    }
}

fn day(query: &mut Query, name: &str) -> Result<Option<Day>, Problem> {
    let read = |text: String| {
        let fault = || Problem::invalid(format!("?{name}"), format!("{text:?} is not a date such as 2030-01-31"));
        Day::parse(&text).ok_or_else(fault)
    };
    query.text(name).map(read).transpose()
}

fn groups(text: &str) -> Result<Vec<Group>, Problem> {
    let mut groups = Vec::new();
    for name in text.split(',') {
        let group = Group::ALL.into_iter().find(|group| group.name() == name);
        let group = group.ok_or_else(|| {
            Problem::invalid("?by", format!("{name:?} is none of {}", Group::ALL.map(Group::name).join(", ")))
        })?;
        if groups.contains(&group) {
            return Err(Problem::invalid("?by", format!("{name:?} is named twice")));
        }
        groups.push(group);
    }
    Ok(groups)
}

fn accepts_csv(request: &HttpRequest) -> bool {
    prefers(request.headers(), "text/csv", "application/json")
}

async fn own(caller: Caller<UsageRead>, budgets: Service, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let tenant = caller.tenant.no;
    budgets.answer(&request, move |_| Ok(Some(Some(tenant)))).await
}

async fn of_tenant(
    _: Admin,
    budgets: Service,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = id.into_inner();
    budgets.answer(&request, move |tx| Ok(tenants::find(tx, &id)?.map(|tenant| Some(tenant.no)))).await
}

async fn of_all(_: Admin, budgets: Service, request: HttpRequest) -> Result<HttpResponse, Problem> {
    budgets.answer(&request, |_| Ok(Some(None))).await
}

impl Budgets {
    /// `whose` finds the tenant, or nobody in particular; `None` when there is no
    /// such tenant.
    async fn answer(
        &self,
        request: &HttpRequest,
        whose: impl FnOnce(&Tx<'_>) -> Result<Option<Option<i64>>, crate::db::Error> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let Asked { from, to, by, csv } = Asked::of(request, Day::of(self.0.clock.now()))?;
        self.flush().await;
        let wanted = by.clone();
        let read = move |tx: &Tx<'_>| {
            let Some(tenant) = whose(tx)? else { return Ok(None) };
            sql::report(tx, tenant, (from, to), &wanted, MOST_ROWS + 1).map(Some)
        };
        let lines = self.0.db.read(read).await?.ok_or_else(|| Problem::not_found("tenant"))?;
        if lines.len() > MOST_ROWS {
            let detail = format!("this has more than {MOST_ROWS} lines; ask for fewer days or a coarser by");
            return Err(Problem::invalid("?by", detail));
        }
        if csv {
            let table = table(&by, &lines).map_err(Problem::internal)?;
            let kind = HeaderValue::from_static("text/csv; charset=utf-8");
            return Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, kind)).body(table));
        }
        let counts: Vec<_> = lines.iter().map(CountsView::of).collect();
        let total = counts.iter().fold(CountsView::default(), |sum, counts| sum.plus(*counts));
        let data = lines.into_iter().zip(counts).map(|(line, counts)| view(&by, line, counts)).collect();
        Ok(HttpResponse::Ok().json(SpendView { from: from.date(), to: to.date(), data, total }))
    }
}

fn view(by: &[Group], line: Reported, counts: CountsView) -> LineView {
    let mut view = LineView { counts, ..LineView::default() };
    for (group, value) in by.iter().zip(line.groups) {
        let field = match group {
            Group::Day => &mut view.day,
            Group::Tenant => &mut view.tenant_id,
            Group::Key => &mut view.key_id,
            Group::Session => &mut view.session,
            Group::Job => &mut view.job_id,
            Group::Tool => &mut view.tool,
            Group::Model => &mut view.model,
            Group::Provider => &mut view.provider,
            Group::Purpose => &mut view.purpose,
        };
        *field = value;
    }
    view
}

fn table(by: &[Group], lines: &[Reported]) -> Result<Vec<u8>, String> {
    let head = |group: &Group| match group {
        Group::Tenant => "tenant_id",
        Group::Key => "key_id",
        Group::Job => "job_id",
        other => other.name(),
    };
    let numbers = ["calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"];
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(by.iter().map(head).chain(numbers)).map_err(|error| error.to_string())?;
    for line in lines {
        let groups = line.groups.iter().map(|group| harmless(group.as_deref().unwrap_or_default()));
        let counts = [line.calls].into_iter().chain(line.tokens).map(|count| count.to_string());
        let record = groups.chain(counts).chain([line.cost.to_string()]);
        table.write_record(record).map_err(|error| error.to_string())?;
    }
    table.into_inner().map_err(|error| error.to_string())
}

/// A cell that a spreadsheet would take for a formula begins with a quote, as
/// spreadsheets themselves write it.
fn harmless(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        let line = |session: &str| Reported { groups: vec![Some(session.into()), None], ..Reported::default() };
        let lines = ["=1+1", "+1", "-1", "@x", "a,b", "plain"].map(line);
        let table = table(&[Group::Session, Group::Key], &lines).expect("a table");
        insta::assert_snapshot!(String::from_utf8(table).expect("text"), @r#"
        session,key_id,calls,input_tokens,cached_tokens,output_tokens,reasoning_tokens,cost_usd
        '=1+1,,0,0,0,0,0,0
        '+1,,0,0,0,0,0,0
        '-1,,0,0,0,0,0,0
        '@x,,0,0,0,0,0,0
        "a,b",,0,0,0,0,0,0
        plain,,0,0,0,0,0,0
        "#);
    }

    #[test]
    fn groups_are_read_strictly() {
        assert_eq!(groups("day,model").expect("two"), [Group::Day, Group::Model]);
        for wrong in ["", "day,", "days", "day,day", "day, model"] {
            assert!(groups(wrong).is_err(), "{wrong}");
        }
    }
}
