//! What is known of backups from one start to the next, and when the next is due.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::{Error, Tx, params};
use crate::id::random_bytes;

/// Who this database belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made once, the same for ever: a UUID.
    pub instance: String,
    /// Goes up each time that it is restored.
    pub timeline: u32,
}

/// What became of backups so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Since when backups could have been made.
    pub begun_at: Timestamp,
    /// The last that was made.
    pub last: Option<Last>,
    /// When the last was begun that also came to where the settings want it sent.
    #[serde(default)]
    pub complete_at: Option<Timestamp>,
    /// Since then so many have failed.
    #[serde(default)]
    pub failures: u32,
    /// The last failure.
    pub problem: Option<Problem>,
    /// The last time that one was restored as a test.
    pub drill: Option<Drill>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LastBackup")]
pub struct Last {
    /// Its name.
    pub name: String,
    /// When it was begun: what was written later is not in it.
    pub at: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// The size of the database in it.
    pub database_bytes: u64,
    /// How long making it took, in seconds.
    pub seconds: f64,
    /// Whether it is where the settings want copies sent to.
    pub sent: bool,
}

/// Why one could not be made or sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackupProblem")]
pub struct Problem {
    /// What went wrong, for people.
    pub what: String,
    /// When.
    pub at: Timestamp,
    /// Since when none has succeeded.
    pub since: Timestamp,
}

/// A restore as a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RestoreDrill")]
pub struct Drill {
    /// What was restored.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// What went wrong; none: it can be restored.
    pub problem: Option<String>,
}

impl State {
    pub(super) fn new(begun_at: Timestamp) -> Self {
        Self { begun_at, last: None, complete_at: None, failures: 0, problem: None, drill: None }
    }

    /// One was made, and sent where it has to be.
    pub(super) fn succeeded(&mut self, last: Last) {
        let complete_at = Some(last.at);
        *self = Self { last: Some(last), complete_at, drill: self.drill.take(), ..Self::new(self.begun_at) };
    }

    /// Whether none has been completed for much longer than the span between two.
    pub(super) fn is_late(&self, every: Duration, now: Timestamp) -> bool {
        let sent = self.last.as_ref().filter(|last| last.sent).map(|last| last.at);
        now.since(self.complete_at.max(sent).unwrap_or(self.begun_at)) > 2 * every
    }

    /// One was not made, or not sent.
    pub(super) fn failed(&mut self, what: String, at: Timestamp) {
        let since = self.problem.as_ref().map_or(at, |problem| problem.since.min(at));
        self.failures = self.failures.saturating_add(1);
        self.problem = Some(Problem { what, at, since });
    }

    /// When the next is due. A time that lies ahead was written while the clock
    /// was wrong, and counts for nothing.
    pub(super) fn due(&self, every: Duration, now: Timestamp) -> Timestamp {
        let last = self.last.as_ref().map(|last| last.at).filter(|at| *at <= now);
        let complete = self.last.as_ref().is_none_or(|last| last.sent);
        let first = self.begun_at.plus(every.min(FIRST));
        let regular = match last {
            Some(at) if complete => at.plus(every),
            None if self.last.is_none() && self.begun_at <= now => first,
            _ => now,
        };
        match self.problem.as_ref().filter(|problem| problem.at <= now) {
            None => regular,
            Some(problem) => regular.max(problem.at.plus(pause(self.failures).min(every))),
        }
    }

    /// The last one, when it only has to be sent.
    pub(super) fn unsent(&self, every: Duration, now: Timestamp) -> Option<&Last> {
        self.last.as_ref().filter(|last| !last.sent && last.at <= now && now.since(last.at) < every)
    }

    /// When the next restore as a test is due; never before there is a backup.
    pub(super) fn drill_due(&self, every: Duration, now: Timestamp) -> Option<Timestamp> {
        let last = self.last.as_ref().filter(|last| last.sent)?;
        let drilled = self.drill.as_ref().filter(|drill| drill.at <= now);
        Some(match drilled {
            None => last.at.plus(every.min(FIRST_DRILL)),
            Some(Drill { at, problem: None, .. }) => at.plus(every),
            // Perhaps it was the line to the bucket.
            Some(drill) => drill.at.plus(every.min(FIRST_DRILL)),
        })
    }
}

/// Before it a new service has nothing worth a backup.
const FIRST: Duration = Duration::from_secs(600);
/// The first restore as a test, and the next after one that failed, after the first backup: nobody should learn
/// after a month that it never would have worked.
const FIRST_DRILL: Duration = Duration::from_secs(3600);

/// The wait after so many failures.
fn pause(failures: u32) -> Duration {
    let minutes = match failures {
        0 | 1 => 1,
        2 => 5,
        3 => 15,
        _ => 60,
    };
    Duration::from_secs(minutes * 60)
}

const STATE: &str = "backup.state";
const INSTANCE: &str = "instance";
const TIMELINE: &str = "timeline";

fn get(tx: &Tx<'_>, key: &str) -> Result<Option<String>, Error> {
    tx.one("SELECT value FROM meta WHERE key = ?1", params![key], |row| row.get(0))
}

fn set(tx: &Tx<'_>, key: &str, value: &str) -> Result<(), Error> {
    tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

/// What is kept, and from now on in any case. What cannot be read is as good as
/// nothing.
pub(super) fn read(tx: &Tx<'_>, now: Timestamp) -> Result<State, Error> {
    match get(tx, STATE)?.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(state) => Ok(state),
        None => write(tx, State::new(now)),
    }
}

/// Changes what is kept.
pub(super) fn change(tx: &Tx<'_>, now: Timestamp, change: impl FnOnce(&mut State)) -> Result<State, Error> {
    let mut state = read(tx, now)?;
    change(&mut state);
    write(tx, state)
}

fn write(tx: &Tx<'_>, state: State) -> Result<State, Error> {
    let text = serde_json::to_string(&state).map_err(|error| Error::Sql(error.to_string()))?;
    set(tx, STATE, &text)?;
    Ok(state)
}

/// Whose database this is; `None` when nobody has said so yet.
pub(super) fn identity(tx: &Tx<'_>) -> Result<Option<Identity>, Error> {
    let timeline = get(tx, TIMELINE)?.and_then(|text| text.parse().ok()).unwrap_or(1);
    Ok(get(tx, INSTANCE)?.map(|instance| Identity { instance, timeline }))
}

/// Whose database this is, from now on in any case.
pub(super) fn identify(tx: &Tx<'_>) -> Result<Identity, Error> {
    if let Some(known) = identity(tx)? {
        return Ok(known);
    }
    let random = uuid::Builder::from_random_bytes(random_bytes()).into_uuid();
    let identity = Identity { instance: random.to_string(), timeline: 1 };
    set(tx, INSTANCE, &identity.instance)?;
    set(tx, TIMELINE, "1")?;
    Ok(identity)
}

/// Lets a restored database begin a timeline of its own, with a backup soon: it
/// tells the host that it takes the place of.
pub(super) fn begin_timeline(tx: &Tx<'_>, timeline: u32) -> Result<(), Error> {
    set(tx, TIMELINE, &timeline.to_string())?;
    write(tx, State::new(Timestamp::from_micros(0))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> State {
        State::new(at(0))
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * 3_600_000_000)
    }

    fn last(hours: i64, sent: bool) -> Last {
        let name = "a".into();
        Last { name, at: at(hours), bytes: 1, database_bytes: 1, seconds: 1.0, sent }
    }

    #[test]
    fn the_first_is_due_soon_and_the_next_a_span_later() {
        assert_eq!(fresh().due(24 * HOUR, at(5)), at(0).plus(FIRST));
        assert_eq!(State::new(at(9)).due(24 * HOUR, at(5)), at(5), "begun in the future");
        let state = State { last: Some(last(5, true)), ..fresh() };
        assert_eq!(state.due(24 * HOUR, at(6)), at(29));
    }

    #[test]
    fn a_clock_that_jumps_makes_one_due_and_not_many() {
        let mut state = State { last: Some(last(5, true)), ..fresh() };
        let later = at(5_000);
        assert!(state.due(24 * HOUR, later) <= later, "far ahead");
        state.succeeded(last(5_000, true));
        assert!(state.due(24 * HOUR, later) > later, "one is enough");
        assert_eq!(state.due(24 * HOUR, at(10)), at(10), "set back, what was made in the future does not count");
    }

    #[test]
    fn a_failure_is_followed_by_a_pause() {
        let mut state = State { last: Some(last(0, true)), ..fresh() };
        state.failed("full".into(), at(24));
        assert_eq!(state.due(24 * HOUR, at(24)), at(24).plus(Duration::from_secs(60)));
        for _ in 0..5 {
            state.failed("full".into(), at(30));
        }
        assert_eq!(state.due(24 * HOUR, at(30)), at(31));
        assert_eq!(state.problem.as_ref().map(|problem| problem.since), Some(at(24)));
        assert_eq!(state.due(24 * HOUR, at(25)), at(24), "a failure from the future holds nothing up");
        state.succeeded(last(31, true));
        assert_eq!((state.failures, state.problem), (0, None));
    }

    #[test]
    fn only_what_has_been_completed_keeps_the_next_from_being_late() {
        let mut state = fresh();
        assert!(!state.is_late(24 * HOUR, at(48)) && state.is_late(24 * HOUR, at(49)), "there was never one");
        state.succeeded(last(40, true));
        assert!(!state.is_late(24 * HOUR, at(88)));
        state.last = Some(last(87, false));
        assert!(state.is_late(24 * HOUR, at(89)), "made, and sent nowhere");
        let older = State { last: Some(last(87, true)), complete_at: None, ..fresh() };
        assert!(!older.is_late(24 * HOUR, at(89)), "as the version before has written it");
    }

    #[test]
    fn a_restore_is_tried_an_hour_after_the_first_backup_and_then_each_span() {
        let month = 720 * HOUR;
        let mut state = fresh();
        assert_eq!(state.drill_due(month, at(1)), None, "there is nothing to try out");
        state.last = Some(last(5, false));
        assert_eq!(state.drill_due(month, at(6)), None, "nor at the place that counts");
        state.succeeded(last(5, true));
        assert_eq!(state.drill_due(month, at(6)), Some(at(6)));
        let drill = |hours, problem: Option<&str>| {
            Some(Drill { name: "a".into(), at: at(hours), problem: problem.map(Into::into) })
        };
        state.drill = drill(6, None);
        assert_eq!(state.drill_due(month, at(7)), Some(at(726)));
        state.succeeded(last(29, true));
        assert_eq!(state.drill_due(month, at(30)), Some(at(726)), "another backup changes nothing");
        state.drill = drill(726, Some("half of it is missing"));
        assert_eq!(state.drill_due(month, at(727)), Some(at(727)), "one that failed is tried again soon");
        assert_eq!(state.drill_due(month, at(40)), Some(at(30)), "and one from the future counts for nothing");
    }

    #[test]
    fn what_could_not_be_sent_is_sent_and_not_made_again() {
        let mut state = fresh();
        state.last = Some(last(5, false));
        assert_eq!(state.due(24 * HOUR, at(6)), at(6));
        assert!(state.unsent(24 * HOUR, at(6)).is_some());
        assert!(state.unsent(24 * HOUR, at(29)).is_none(), "then it is time for another");
    }
}
