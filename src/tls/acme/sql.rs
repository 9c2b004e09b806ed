//! Every statement on certificates and ACME accounts.

use super::policy::Window;
use crate::clock::Timestamp;
use crate::db::{Error, Row as DbRow, RowError, Tx, params};

/// What is known of a name's certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Chain and key in PEM, and where they come from.
    pub issued: Option<Stored>,
    pub revoked_at: Option<Timestamp>,
    /// When the authority suggests to renew.
    pub window: Option<Window>,
    pub ask_window_at: Option<Timestamp>,
    /// The order under way.
    pub order: Option<OpenOrder>,
    /// Failures since the last success.
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub problem: Option<String>,
    pub problem_at: Option<Timestamp>,
}

/// A certificate as it was issued.
#[derive(Clone)]
pub(super) struct Stored {
    pub chain: String,
    pub key: String,
    pub directory: String,
    pub issued_at: Timestamp,
}

/// An order that a restart goes on with.
#[derive(Clone)]
pub(super) struct OpenOrder {
    pub directory: String,
    pub url: String,
    /// The kind of challenge that it is to be proven by, as configured.
    pub challenge: String,
    pub key: String,
}

// The keys in them are nobody's business.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({}, {})", self.directory, self.issued_at)
    }
}

impl std::fmt::Debug for OpenOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenOrder({}, {})", self.url, self.challenge)
    }
}

fn row(row: &DbRow<'_>) -> Result<Row, RowError> {
    let time = |column| Ok::<_, RowError>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let text = |column| row.get::<_, Option<String>>(column);
    let issued = match (text(0)?, text(1)?, text(2)?, time(3)?) {
        (Some(chain), Some(key), Some(directory), Some(issued_at)) => Some(Stored { chain, key, directory, issued_at }),
        _ => None,
    };
    let window = time(5)?.zip(time(6)?).map(|(start, end)| Window { start, end });
    let order = match (text(8)?, text(9)?, text(10)?, text(11)?) {
        (Some(directory), Some(url), Some(challenge), Some(key)) => Some(OpenOrder { directory, url, challenge, key }),
        _ => None,
    };
    Ok(Row {
        issued,
        revoked_at: time(4)?,
        window,
        ask_window_at: time(7)?,
        order,
        failures: row.get(12)?,
        failing_since: time(13)?,
        next_attempt_at: time(14)?,
        problem: text(15)?,
        problem_at: time(16)?,
    })
}

/// A name's row; one with nothing in it where there is none.
pub(super) fn get(tx: &Tx<'_>, name: &str) -> Result<Row, Error> {
    let sql = "SELECT chain, private_key, directory, issued_at, revoked_at, window_start, window_end, ask_window_at,
                   order_directory, order_url, order_challenge, order_key,
                   failures, failing_since, next_attempt_at, problem, problem_at
               FROM certificates WHERE name = ?1";
    Ok(tx.one(sql, [name], row)?.unwrap_or_default())
}

fn ensure(tx: &Tx<'_>, name: &str) -> Result<(), Error> {
    tx.execute("INSERT INTO certificates (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
    Ok(())
}

/// Keeps an order that has been made, or forgets the one that was kept.
pub(super) fn set_order(tx: &Tx<'_>, name: &str, order: Option<&OpenOrder>) -> Result<(), Error> {
    ensure(tx, name)?;
    let sql = "UPDATE certificates SET order_directory = ?2, order_url = ?3, order_challenge = ?4, order_key = ?5
               WHERE name = ?1";
    let of = |part: fn(&OpenOrder) -> &String| order.map(part);
    tx.execute(sql, params![name, of(|it| &it.directory), of(|it| &it.url), of(|it| &it.challenge), of(|it| &it.key)])?;
    Ok(())
}

/// A new certificate: what was wrong before is over.
pub(super) fn succeed(tx: &Tx<'_>, name: &str, new: &Stored) -> Result<(), Error> {
    ensure(tx, name)?;
    let sql = "UPDATE certificates SET chain = ?2, private_key = ?3, directory = ?4, issued_at = ?5,
                   revoked_at = NULL, window_start = NULL, window_end = NULL, ask_window_at = NULL,
                   order_directory = NULL, order_url = NULL, order_challenge = NULL, order_key = NULL,
                   failures = 0, failing_since = NULL, next_attempt_at = NULL, problem = NULL, problem_at = NULL
               WHERE name = ?1";
    tx.execute(sql, params![name, new.chain, new.key, new.directory, new.issued_at.micros()])?;
    Ok(())
}

/// One more failure, and when it is tried again.
pub(super) fn fail(tx: &Tx<'_>, name: &str, problem: &str, now: Timestamp, next: Timestamp) -> Result<(), Error> {
    ensure(tx, name)?;
    let sql = "UPDATE certificates SET failures = failures + 1, failing_since = min(coalesce(failing_since, ?3), ?3),
                   problem = ?2, problem_at = ?3, next_attempt_at = ?4
               WHERE name = ?1";
    tx.execute(sql, params![name, problem, now.micros(), next.micros()])?;
    Ok(())
}

/// What the authority suggests, or that it suggests nothing, on the certificate
/// that was issued then: there may be another by now.
pub(super) fn set_window(
    tx: &Tx<'_>,
    name: &str,
    issued_at: Timestamp,
    window: Option<Window>,
    ask_at: Timestamp,
) -> Result<(), Error> {
    let sql = "UPDATE certificates SET window_start = ?3, window_end = ?4, ask_window_at = ?5
               WHERE name = ?1 AND issued_at = ?2";
    let (start, end) = (window.map(|it| it.start.micros()), window.map(|it| it.end.micros()));
    tx.execute(sql, params![name, issued_at.micros(), start, end, ask_at.micros()])?;
    Ok(())
}

/// The certificate that was issued then does not count any more.
pub(super) fn revoke(tx: &Tx<'_>, name: &str, issued_at: Timestamp, now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE certificates SET revoked_at = ?3 WHERE name = ?1 AND issued_at = ?2";
    tx.execute(sql, params![name, issued_at.micros(), now.micros()])?;
    Ok(())
}

/// A directory's account, as it was kept.
pub(super) fn account(tx: &Tx<'_>, directory: &str) -> Result<Option<String>, Error> {
    tx.one("SELECT credentials FROM acme_accounts WHERE directory = ?1", [directory], |row| row.get(0))
}

pub(super) fn set_account(tx: &Tx<'_>, directory: &str, credentials: &str, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO acme_accounts (directory, credentials, created_at) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![directory, credentials, now.micros()])?;
    Ok(())
}

pub(super) fn forget_account(tx: &Tx<'_>, directory: &str) -> Result<(), Error> {
    tx.execute("DELETE FROM acme_accounts WHERE directory = ?1", [directory])?;
    Ok(())
}
