//! Every statement on certificates and ACME accounts.

use super::policy::Window;
use crate::clock::Timestamp;
use crate::db::{Error, Row as DbRow, RowError, Tx, params};
use crate::vault::{SecretName, Vault};

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

/// The names of secrets: a certificate's private key, that of an order under way,
/// the credentials of an account.
fn private_key(name: &str) -> SecretName {
    SecretName::new("certificate.private_key", name)
}

fn order_key(name: &str) -> SecretName {
    SecretName::new("certificate.order_key", name)
}

fn credentials(directory: &str) -> SecretName {
    SecretName::new("acme.account", directory)
}

/// No secret itself: it lies with the account, and goes with it.
fn doubt(directory: &str) -> SecretName {
    SecretName::new("acme.account_in_doubt", directory)
}

/// A secret's text. One that cannot be opened is as good as none: another is
/// made or ordered.
fn secret(tx: &Tx<'_>, vault: &Vault, name: &SecretName) -> Result<Option<String>, Error> {
    match vault.get(tx, name)? {
        None => Ok(None),
        Some(Ok(plain)) => Ok(plain.into_text()),
        Some(Err(what)) => {
            tracing::error!(secret = %name, "a secret cannot be opened, so it is done without: {what}");
            Ok(None)
        }
    }
}

/// A row without its secrets, which lie elsewhere.
fn row(row: &DbRow<'_>) -> Result<Row, RowError> {
    let time = |column| Ok::<_, RowError>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let text = |column| row.get::<_, Option<String>>(column);
    let issued = match (text(0)?, text(1)?, time(2)?) {
        (Some(chain), Some(directory), Some(issued_at)) => {
            Some(Stored { chain, key: String::new(), directory, issued_at })
        }
        _ => None,
    };
    let window = time(4)?.zip(time(5)?).map(|(start, end)| Window { start, end });
    let order = match (text(7)?, text(8)?, text(9)?) {
        (Some(directory), Some(url), Some(challenge)) => {
            Some(OpenOrder { directory, url, challenge, key: String::new() })
        }
        _ => None,
    };
    Ok(Row {
        issued,
        revoked_at: time(3)?,
        window,
        ask_window_at: time(6)?,
        order,
        failures: row.get(10)?,
        failing_since: time(11)?,
        next_attempt_at: time(12)?,
        problem: text(13)?,
        problem_at: time(14)?,
    })
}

/// A name's row; one with nothing in it where there is none.
pub(super) fn get(tx: &Tx<'_>, vault: &Vault, name: &str) -> Result<Row, Error> {
    let sql = "SELECT chain, directory, issued_at, revoked_at, window_start, window_end, ask_window_at,
                   order_directory, order_url, order_challenge,
                   failures, failing_since, next_attempt_at, problem, problem_at
               FROM certificates WHERE name = ?1";
    let mut found = tx.one(sql, [name], row)?.unwrap_or_default();
    if let Some(stored) = found.issued.take() {
        found.issued = secret(tx, vault, &private_key(name))?.map(|key| Stored { key, ..stored });
    }
    if let Some(order) = found.order.take() {
        found.order = secret(tx, vault, &order_key(name))?.map(|key| OpenOrder { key, ..order });
    }
    Ok(found)
}

fn ensure(tx: &Tx<'_>, name: &str) -> Result<(), Error> {
    tx.execute("INSERT INTO certificates (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
    Ok(())
}

/// Keeps an order that has been made, or forgets the one that was kept.
pub(super) fn set_order(tx: &Tx<'_>, vault: &Vault, name: &str, order: Option<&OpenOrder>) -> Result<(), Error> {
    ensure(tx, name)?;
    match order {
        Some(order) => vault.put(tx, &order_key(name), order.key.as_bytes())?,
        None => vault.remove(tx, &order_key(name))?,
    }
    let sql = "UPDATE certificates SET order_directory = ?2, order_url = ?3, order_challenge = ?4 WHERE name = ?1";
    let of = |part: fn(&OpenOrder) -> &String| order.map(part);
    tx.execute(sql, params![name, of(|it| &it.directory), of(|it| &it.url), of(|it| &it.challenge)])?;
    Ok(())
}

/// A new certificate: what was wrong before is over.
pub(super) fn succeed(tx: &Tx<'_>, vault: &Vault, name: &str, new: &Stored) -> Result<(), Error> {
    ensure(tx, name)?;
    vault.put(tx, &private_key(name), new.key.as_bytes())?;
    vault.remove(tx, &order_key(name))?;
    let sql = "UPDATE certificates SET chain = ?2, directory = ?3, issued_at = ?4,
                   revoked_at = NULL, window_start = NULL, window_end = NULL, ask_window_at = NULL,
                   order_directory = NULL, order_url = NULL, order_challenge = NULL,
                   failures = 0, failing_since = NULL, next_attempt_at = NULL, problem = NULL, problem_at = NULL
               WHERE name = ?1";
    tx.execute(sql, params![name, new.chain, new.directory, new.issued_at.micros()])?;
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
pub(super) struct Kept {
    /// The account's URL and its private key, JSON.
    pub credentials: String,
    /// Whether the authority may have been given another key that is not here.
    pub in_doubt: bool,
}

pub(super) fn account(tx: &Tx<'_>, vault: &Vault, directory: &str) -> Result<Option<Kept>, Error> {
    let in_doubt = vault.get(tx, &doubt(directory))?.is_some();
    Ok(secret(tx, vault, &credentials(directory))?.map(|credentials| Kept { credentials, in_doubt }))
}

/// Keeps an account, of which there is no doubt.
pub(super) fn set_account(tx: &Tx<'_>, vault: &Vault, directory: &str, account: &str) -> Result<(), Error> {
    vault.remove(tx, &doubt(directory))?;
    vault.put(tx, &credentials(directory), account.as_bytes())
}

/// Notes that the authority is about to be given another key.
pub(super) fn doubt_account(tx: &Tx<'_>, vault: &Vault, directory: &str) -> Result<(), Error> {
    vault.put(tx, &doubt(directory), b"")
}

/// Seals what an agentd without a vault has left in columns of its own; how many
/// secrets that were.
pub(super) fn seal_plain(tx: &Tx<'_>, vault: &Vault) -> Result<usize, Error> {
    let pair = |row: &DbRow<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let accounts = tx.all("SELECT directory, credentials FROM acme_accounts", [], pair)?;
    let keys = tx.all("SELECT name, private_key FROM certificates WHERE private_key IS NOT NULL", [], pair)?;
    let orders = tx.all("SELECT name, order_key FROM certificates WHERE order_key IS NOT NULL", [], pair)?;
    let count = accounts.len() + keys.len() + orders.len();
    if count == 0 {
        return Ok(0);
    }
    let accounts = accounts.into_iter().map(|(directory, account)| (credentials(&directory), account));
    let keys = keys.into_iter().map(|(name, key)| (private_key(&name), key));
    let orders = orders.into_iter().map(|(name, key)| (order_key(&name), key));
    for (name, plain) in accounts.chain(keys).chain(orders) {
        vault.put(tx, &name, plain.as_bytes())?;
    }
    tx.overwriting(|| {
        tx.execute("DELETE FROM acme_accounts", [])?;
        tx.execute("UPDATE certificates SET private_key = NULL, order_key = NULL", [])
    })?;
    // Earlier certificates have left keys between the rows.
    tx.rewrite("certificates")?;
    Ok(count)
}
