//! Every statement on users and their sessions.

use super::Update;
use super::password::Hashed;
use super::types::{UserName, UserRow};
use crate::auth::{Mac, Role, Session};
use crate::clock::Timestamp;
use crate::db::{Error, Row, RowError, Tx, params};

const USER: &str = "no, name, role, created_at, updated_at, password_changed_at, last_login_at";

fn user(row: &Row<'_>) -> Result<UserRow, RowError> {
    let time = |column| row.get(column).map(Timestamp::from_micros);
    Ok(UserRow {
        no: row.get(0)?,
        name: row.get(1)?,
        role: Role::from_name(row.get_ref(2)?.as_str()?),
        created_at: time(3)?,
        updated_at: time(4)?,
        password_changed_at: time(5)?,
        last_login_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
    })
}

pub(super) fn any(tx: &Tx<'_>) -> Result<bool, Error> {
    Ok(tx.one("SELECT 1 FROM users LIMIT 1", [], |_| Ok(()))?.is_some())
}

/// `None` when the name is taken.
pub(super) fn insert(
    tx: &Tx<'_>,
    name: &UserName,
    role: Role,
    password: &Hashed,
    now: Timestamp,
) -> Result<Option<UserRow>, Error> {
    let sql = format!(
        "INSERT INTO users (name, role, password, created_at, updated_at, password_changed_at)
         VALUES (?1, ?2, ?3, ?4, ?4, ?4) ON CONFLICT (name) DO NOTHING RETURNING {USER}"
    );
    tx.one(&sql, params![name.as_str(), role.name(), password.0, now.micros()], user)
}

/// Newest first.
pub(super) fn list(tx: &Tx<'_>, before: Option<i64>, limit: usize) -> Result<Vec<UserRow>, Error> {
    let sql = format!("SELECT {USER} FROM users WHERE no < ?1 ORDER BY no DESC LIMIT ?2");
    tx.all(&sql, params![before.unwrap_or(i64::MAX), limit], user)
}

pub(super) fn password_of(tx: &Tx<'_>, name: &str) -> Result<Option<(i64, Hashed)>, Error> {
    let sql = "SELECT no, password FROM users WHERE name = ?1";
    tx.one(sql, [name], |row| Ok((row.get(0)?, Hashed(row.get(1)?))))
}

/// Whether this is the only one left who may change everything.
pub(super) fn is_last_admin(tx: &Tx<'_>, name: &str) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM users WHERE name = ?1 AND role = 'admin'
                   AND NOT EXISTS (SELECT 1 FROM users WHERE name <> ?1 AND role = 'admin')";
    Ok(tx.one(sql, [name], |_| Ok(()))?.is_some())
}

pub(super) fn update(tx: &Tx<'_>, name: &str, update: &Update, now: Timestamp) -> Result<Option<UserRow>, Error> {
    let sql = format!(
        "UPDATE users SET role = coalesce(?2, role), password = coalesce(?3, password),
             password_changed_at = iif(?3 IS NULL, password_changed_at, ?4), updated_at = ?4
         WHERE name = ?1 RETURNING {USER}"
    );
    let (role, password) = (update.role.map(Role::name), update.password.as_ref().map(|hashed| &hashed.0));
    tx.one(&sql, params![name, role, password, now.micros()], user)
}

pub(super) fn delete(tx: &Tx<'_>, name: &str) -> Result<Option<UserRow>, Error> {
    tx.one(&format!("DELETE FROM users WHERE name = ?1 RETURNING {USER}"), [name], user)
}

/// Notes that somebody signed in with the password that has this hash.
pub(super) fn logged_in(tx: &Tx<'_>, no: i64, password: &Hashed, now: Timestamp) -> Result<Option<UserRow>, Error> {
    let sql = format!("UPDATE users SET last_login_at = ?3 WHERE no = ?1 AND password = ?2 RETURNING {USER}");
    tx.one(&sql, params![no, password.0, now.micros()], user)
}

pub(super) fn insert_session(
    tx: &Tx<'_>,
    mac: &Mac,
    user_no: i64,
    now: Timestamp,
    ends_at: Timestamp,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO user_sessions (token, user_no, created_at, last_used_at, ends_at) VALUES (?1, ?2, ?3, ?3, ?4)",
        params![mac, user_no, now.micros(), ends_at.micros()],
    )?;
    Ok(())
}

/// Every session with its user; how many there are is bounded for each.
pub(super) fn sessions(tx: &Tx<'_>) -> Result<Vec<Session>, Error> {
    let sql = "SELECT u.no, u.name, u.role, s.token, s.last_used_at, s.ends_at
               FROM user_sessions AS s JOIN users AS u ON u.no = s.user_no";
    tx.all(sql, [], |row| {
        let role = Role::from_name(row.get_ref(2)?.as_str()?);
        let time = |column| row.get(column).map(Timestamp::from_micros);
        Ok(Session::new(row.get(0)?, row.get(1)?, role, row.get(3)?, time(4)?, time(5)?))
    })
}

/// Removes a user's oldest sessions above a number; what is kept of their tokens.
pub(super) fn remove_surplus_sessions(tx: &Tx<'_>, user_no: i64, most: usize) -> Result<Vec<Mac>, Error> {
    let sql = "DELETE FROM user_sessions WHERE token IN
                   (SELECT token FROM user_sessions WHERE user_no = ?1 ORDER BY created_at DESC LIMIT -1 OFFSET ?2)
               RETURNING token";
    tx.all(sql, params![user_no, most], |row| row.get(0))
}

pub(super) fn remove_session(tx: &Tx<'_>, mac: &Mac) -> Result<(), Error> {
    tx.execute("DELETE FROM user_sessions WHERE token = ?1", params![mac]).map(drop)
}

pub(super) fn remove_sessions(tx: &Tx<'_>, user_no: i64) -> Result<(), Error> {
    tx.execute("DELETE FROM user_sessions WHERE user_no = ?1", [user_no]).map(drop)
}

pub(super) fn set_session_used(tx: &Tx<'_>, mac: &Mac, at: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE user_sessions SET last_used_at = ?2 WHERE token = ?1";
    tx.execute(sql, params![mac, at.micros()]).map(drop)
}
