//! `[budget]`

use std::time::Duration;

use jiff::tz::TimeZone;

use super::reader::Reader;
use super::sections::{aliased, key};
use super::setting::{DAY, OrOff, Setting, is_off};
use crate::money::Usd;

/// What a day of a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetWindow {
    /// The last 24 hours.
    Rolling,
    /// From midnight to midnight in the zone.
    Calendar,
}

impl Setting for BudgetWindow {
    const EXPECTED: &'static str = "rolling or calendar";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "rolling" => Some(Self::Rolling),
            "calendar" => Some(Self::Calendar),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Rolling => "rolling",
            Self::Calendar => "calendar",
        }
        .into()
    }
}

impl Setting for TimeZone {
    const EXPECTED: &'static str = "a time zone of the IANA database, such as UTC or Europe/Berlin";

    fn parse(text: &str) -> Option<Self> {
        if text == "UTC" { Some(Self::UTC) } else { Self::get(text).ok() }
    }

    fn show(&self) -> String {
        self.iana_name().unwrap_or("UTC").into()
    }
}

impl Setting for OrOff<Usd> {
    const EXPECTED: &'static str = "US dollars such as 50 or 0.75, or off";

    fn parse(text: &str) -> Option<Self> {
        if is_off(text) { Some(Self::Off) } else { text.parse().ok().map(Self::On) }
    }

    fn show(&self) -> String {
        match self {
            Self::On(amount) => amount.to_string(),
            Self::Off => "off".into(),
        }
    }
}

/// `[budget]`
#[derive(Clone, Debug)]
pub struct BudgetSection {
    /// What all tenants together may spend in a day; `None` for no limit.
    pub service_day: Option<Usd>,
    /// What a session may spend where its tenant has no limit for sessions.
    pub session: Option<Usd>,
    /// What a day is.
    pub window: BudgetWindow,
    /// Where calendar days and months begin.
    pub zone: TimeZone,
    /// The HTTP status of a call that a budget cannot pay.
    pub exhausted_status: u16,
    /// How long each call is kept; sums by day are kept for ever.
    pub keep_calls: Duration,
}

impl BudgetSection {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let service = aliased(
            "budget.service_day_usd",
            "AGENT_DAILY_BUDGET_USD",
            "What calls of models may cost in a day over all tenants, in US dollars, or off.",
        );
        let session = aliased(
            "budget.session_usd",
            "AGENT_SESSION_BUDGET_USD",
            "What they may cost in one session of a tenant without a limit of its own for that, or off.",
        );
        let window = key("budget.window", "What a day is: rolling for the last 24 hours, or calendar.");
        let zone = key("budget.zone", "Time zone in which calendar days and months begin.");
        let status = key("budget.exhausted_status", "HTTP status of a call that a budget cannot pay.");
        let keep = key("budget.keep_calls", "How long each call is kept; sums by day are kept for ever.");
        let dollars = |whole| OrOff::On(Usd::from_nano(whole));
        let section = Self {
            service_day: reader.value(service, dollars(50_000_000_000)).into(),
            session: reader.value(session, dollars(750_000_000)).into(),
            window: reader.value(window, BudgetWindow::Rolling),
            zone: reader.value(zone, TimeZone::UTC),
            exhausted_status: u16::try_from(reader.value(status, 402_usize)).unwrap_or(0),
            keep_calls: reader.span(keep, 30 * DAY, DAY..=100 * 366 * DAY),
        };
        if !(400..=599).contains(&section.exhausted_status) {
            let what = "budget.exhausted_status must be the status of an error, from 400 to 599";
            reader.fault_at_key("budget.exhausted_status", what.into());
        }
        section
    }
}
