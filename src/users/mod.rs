//! People who administer the service: their names, roles and passwords, and
//! where they are signed in. This room owns their rows and keeps the sessions
//! of `auth` in step with them before it answers.

mod password;
mod routes;
mod session;
mod sql;
mod types;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::StatusCode;

pub use password::{Hashed, Password};
pub use types::{UserName, UserRow};

use crate::auth::{Auth, LONGEST, Role, Session, SessionToken, Throttle, too_many_attempts};
use crate::clock::{Clock, Timestamp};
use crate::db::{self, Db, Tx};
use crate::http::{Problem, Routes};
use password::Passwords;

/// Sessions that a user may have; the oldest gives way to a new one.
const MOST_SESSIONS: usize = 10;

/// The routes of this room.
#[must_use]
pub fn routes() -> Routes {
    routes::routes().and(session::routes())
}

/// The service. One per process, behind an `Arc`.
pub struct Users {
    db: Db,
    clock: Clock,
    auth: Arc<Auth>,
    passwords: Passwords,
    throttle: Throttle,
    /// Whether there is one; never false again, since the last one stays.
    any: Arc<AtomicBool>,
    /// Whether browsers come over TLS.
    secure: bool,
}

/// What is to change about a user.
#[derive(Default)]
struct Update {
    role: Option<Role>,
    password: Option<Hashed>,
}

/// What came of a change.
enum Changed {
    Done(UserRow),
    Missing,
    /// Nobody would be left who may change everything.
    LastAdmin,
}

/// Somebody who has just signed in.
struct LoggedIn {
    user: String,
    role: Role,
    token: SessionToken,
    ends_at: Timestamp,
}

impl Users {
    /// The service over a database; `secure` says whether the service speaks TLS.
    #[must_use]
    pub fn new(db: Db, clock: Clock, auth: Arc<Auth>, secure: bool) -> Self {
        let (passwords, throttle) = (Passwords::default(), Throttle::default());
        Self { db, clock, auth, passwords, throttle, any: Arc::default(), secure }
    }

    /// Reads who is signed in.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn load(&self) -> Result<(), db::Error> {
        let (any, sessions) = self.db.read(|tx| Ok((sql::any(tx)?, sql::sessions(tx)?))).await?;
        self.any.store(any, Ordering::Release);
        for session in sessions {
            self.auth.sessions.add(session);
        }
        Ok(())
    }

    /// Whether there is any user.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Hashes a password, which takes a while.
    ///
    /// # Errors
    /// 429 when too many passwords are being looked at.
    pub async fn hash(&self, password: Password) -> Result<Hashed, Problem> {
        self.passwords.hash(password).await
    }

    /// Writes the first user, an admin, in another room's transaction; `None`
    /// when there is a user already. [`made`](Self::made) is told after the
    /// commit.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn insert_first(
        tx: &Tx<'_>,
        name: &UserName,
        password: &Hashed,
        now: Timestamp,
    ) -> Result<Option<UserRow>, db::Error> {
        if sql::any(tx)? { Ok(None) } else { sql::insert(tx, name, Role::Admin, password, now) }
    }

    /// Tells that a user has been written.
    pub fn made(&self) {
        self.any.store(true, Ordering::Release);
    }

    /// Writes when sessions were last used, and removes those that have ended.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn flush(&self) -> Result<(), db::Error> {
        let ended = self.auth.sessions.take_ended(self.clock.steady_now());
        let used = self.auth.sessions.take_used();
        if used.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let write = self.db.write(move |tx| {
            ended.iter().try_for_each(|mac| sql::remove_session(tx, mac))?;
            used.iter().try_for_each(|(mac, at)| sql::set_session_used(tx, mac, *at))
        });
        write.await
    }

    /// `None` when the name is taken.
    async fn create(&self, name: UserName, role: Role, password: Password) -> Result<Option<UserRow>, Problem> {
        let password = self.hash(password).await?;
        let now = self.clock.now();
        let any = self.any.clone();
        let work = move |tx: &Tx<'_>| sql::insert(tx, &name, role, &password, now);
        let after = move |row: &Option<UserRow>| {
            any.fetch_or(row.is_some(), Ordering::AcqRel);
        };
        Ok(self.db.write_then(work, after).await?)
    }

    /// Ends all sessions of the user: what they could do has changed.
    async fn update(&self, name: String, update: Update) -> Result<Changed, db::Error> {
        let now = self.clock.now();
        let takes_away = update.role.is_some_and(|role| role != Role::Admin);
        let work = move |tx: &Tx<'_>| {
            if takes_away && sql::is_last_admin(tx, &name)? {
                return Ok(Changed::LastAdmin);
            }
            let Some(row) = sql::update(tx, &name, &update, now)? else { return Ok(Changed::Missing) };
            sql::remove_sessions(tx, row.no)?;
            Ok(Changed::Done(row))
        };
        self.db.write_then(work, self.ends_sessions()).await
    }

    async fn delete(&self, name: String) -> Result<Changed, db::Error> {
        let work = move |tx: &Tx<'_>| {
            if sql::is_last_admin(tx, &name)? {
                return Ok(Changed::LastAdmin);
            }
            Ok(sql::delete(tx, &name)?.map_or(Changed::Missing, Changed::Done))
        };
        self.db.write_then(work, self.ends_sessions()).await
    }

    fn ends_sessions(&self) -> impl FnOnce(&Changed) + Send + 'static {
        let sessions = self.auth.sessions.clone();
        move |changed| {
            if let Changed::Done(row) = changed {
                sessions.remove_user(row.no);
            }
        }
    }

    /// Signs somebody in. Takes the same time whether or not there is such a
    /// user.
    async fn log_in(&self, name: &str, password: Password, from: IpAddr) -> Result<LoggedIn, Problem> {
        let attempt = self.throttle.attempt(from).map_err(too_many_attempts)?;
        let outcome = self.look_at(name, password).await;
        if !matches!(outcome, Ok(None)) {
            attempt.take_back();
        }
        let Some((no, hashed)) = outcome? else { return Err(wrong()) };
        let token = SessionToken::generate();
        let (mac, now) = (token.mac(self.auth.hasher()), self.clock.now());
        let ends_at = now.plus(LONGEST);
        let sessions = self.auth.sessions.clone();
        let work = move |tx: &Tx<'_>| {
            // It may have been changed while it was being looked at.
            let Some(row) = sql::logged_in(tx, no, &hashed, now)? else { return Ok(None) };
            sql::insert_session(tx, &mac, no, now, ends_at)?;
            Ok(Some((row, sql::remove_surplus_sessions(tx, no, MOST_SESSIONS)?)))
        };
        let after = move |made: &Option<(UserRow, Vec<_>)>| {
            if let Some((row, surplus)) = made {
                sessions.add(Session::new(row.no, row.name.clone(), row.role, mac, now, ends_at));
                for mac in surplus {
                    sessions.remove(mac);
                }
            }
        };
        match self.db.write_then(work, after).await? {
            Some((row, _)) => Ok(LoggedIn { user: row.name, role: row.role, token, ends_at }),
            None => Err(wrong()),
        }
    }

    /// Number and password of a user who has this one; nothing where it is wrong.
    async fn look_at(&self, name: &str, password: Password) -> Result<Option<(i64, Hashed)>, Problem> {
        let name = name.to_lowercase();
        let found = self.db.read(move |tx| sql::password_of(tx, &name)).await?;
        let right = self.passwords.verify(password, found.as_ref().map(|(_, hashed)| hashed.clone())).await?;
        Ok(found.filter(|_| right))
    }

    async fn log_out(&self, session: &Session) -> Result<(), db::Error> {
        let (mac, sessions) = (session.mac, self.auth.sessions.clone());
        self.db.write_then(move |tx| sql::remove_session(tx, &mac), move |()| sessions.remove(&mac)).await
    }
}

fn wrong() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "the name or the password is wrong")
        .with_hint("an administrator of the machine can set a new one: agentd admin reset-password NAME")
}
