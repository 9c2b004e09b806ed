//! Where people are signed in, in memory, so that a request is authorised
//! without the database. `users`, which owns the rows, keeps this in step with
//! them before it answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use aws_lc_rs::constant_time;

use super::{KeyHasher, Mac, Role};
use crate::clock::Timestamp;
use crate::id::{hex, random_bytes};

/// How long a session lasts that is not used.
pub const IDLE: Duration = Duration::from_secs(3600);
/// How long a session lasts, however much it is used.
pub const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// What a browser holds: 256 random bits, in its cookie only. Printing it
/// prints nothing of it.
pub struct SessionToken(String);

impl SessionToken {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self([0; 2].map(|_: u8| format!("{:032x}", u128::from_ne_bytes(random_bytes()))).concat())
    }

    /// A token as a cookie brings it; `None` when it cannot be one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }

    /// Its text, for the cookie.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn mac(&self, hasher: &KeyHasher) -> Mac {
        hasher.mac(&format!("session {}", self.0))
    }

    /// What was kept of it when the key-hash secret was the one before.
    pub(super) fn mac_before(&self, hasher: &KeyHasher) -> Option<Mac> {
        hasher.mac_before(&format!("session {}", self.0))
    }

    /// What a page has to send beside the cookie to change something. A page
    /// from elsewhere can make a browser send the cookie, but not read this.
    #[must_use]
    pub fn csrf(&self, hasher: &KeyHasher) -> String {
        hex(&hasher.mac(&self.of_csrf()))
    }

    fn of_csrf(&self) -> String {
        format!("csrf {}", self.0)
    }

    /// A page that was opened when the key-hash secret was the one before still
    /// sends what it got then.
    pub(super) fn proves(&self, hasher: &KeyHasher, csrf: &str) -> bool {
        let same = |own: &str| constant_time::verify_slices_are_equal(own.as_bytes(), csrf.as_bytes()).is_ok();
        same(&self.csrf(hasher)) || hasher.mac_before(&self.of_csrf()).is_some_and(|mac| same(&hex(&mac)))
    }
}

/// A session that has not ended.
#[derive(Debug)]
pub struct Session {
    /// The user's row number.
    pub user_no: i64,
    /// The user's name.
    pub user: String,
    /// What the user may do.
    pub role: Role,
    /// When it ends, however much it is used.
    pub ends_at: Timestamp,
    /// What is kept of its token.
    pub mac: Mac,
    last_used: AtomicI64,
    written_used: AtomicI64,
}

impl Session {
    /// A session as its row has it.
    #[must_use]
    pub fn new(user_no: i64, user: String, role: Role, mac: Mac, last_used: Timestamp, ends_at: Timestamp) -> Self {
        let used = || AtomicI64::new(last_used.micros());
        Self { user_no, user, role, ends_at, mac, last_used: used(), written_used: used() }
    }

    fn counts(&self, now: Timestamp) -> bool {
        let used = Timestamp::from_micros(self.last_used.load(Ordering::Relaxed));
        now < self.ends_at && now.since(used) < IDLE
    }
}

/// All sessions. Changed only by `users`, in step with the database.
#[derive(Default)]
pub struct Sessions(RwLock<HashMap<Mac, Arc<Session>>>);

impl Sessions {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Mac, Arc<Session>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Mac, Arc<Session>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub fn add(&self, session: Session) {
        self.write().insert(session.mac, Arc::new(session));
    }

    /// Takes one away.
    pub fn remove(&self, mac: &Mac) {
        self.write().remove(mac);
    }

    /// Takes all of a user away.
    pub fn remove_user(&self, user_no: i64) {
        self.write().retain(|_, session| session.user_no != user_no);
    }

    /// The session that counts now, which is thereby used.
    pub(super) fn find(&self, mac: &Mac, now: Timestamp) -> Option<Arc<Session>> {
        let session = self.read().get(mac).filter(|session| session.counts(now)).cloned()?;
        session.last_used.fetch_max(now.micros(), Ordering::Relaxed);
        Some(session)
    }

    /// Takes away those that have ended; what is kept of their tokens.
    pub fn take_ended(&self, now: Timestamp) -> Vec<Mac> {
        let mut sessions = self.write();
        let ended: Vec<_> = sessions.values().filter(|it| !it.counts(now)).map(|it| it.mac).collect();
        for mac in &ended {
            sessions.remove(mac);
        }
        ended
    }

    /// Those used since they were last asked for here, with the moment.
    pub fn take_used(&self) -> Vec<(Mac, Timestamp)> {
        let used = |session: &Arc<Session>| {
            let last = session.last_used.load(Ordering::Relaxed);
            let written = session.written_used.swap(last, Ordering::Relaxed);
            (last != written).then(|| (session.mac, Timestamp::from_micros(last)))
        };
        self.read().values().filter_map(used).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_idle_and_in_any_case() {
        let (hasher, start) = (KeyHasher::new("a secret", None), Timestamp::from_micros(1_000_000));
        let (sessions, token) = (Sessions::default(), SessionToken::generate());
        let mac = token.mac(&hasher);
        sessions.add(Session::new(1, "a".into(), Role::Admin, mac, start, start.plus(LONGEST)));
        let almost = |span: Duration| span.saturating_sub(Duration::from_secs(1));
        let mut now = start;
        while now < start.plus(almost(LONGEST)) {
            assert!(sessions.find(&mac, now).is_some(), "used again and again it lasts");
            now = now.plus(almost(IDLE));
        }
        assert!(sessions.find(&mac, start.plus(LONGEST)).is_none());
        assert_eq!(sessions.take_ended(start.plus(LONGEST)), [mac]);

        sessions.add(Session::new(1, "a".into(), Role::Admin, mac, start, start.plus(LONGEST)));
        assert!(sessions.find(&mac, start.plus(IDLE)).is_none());
    }

    #[test]
    fn a_token_proves_only_its_own_page() {
        let hasher = KeyHasher::new("a secret", None);
        let (one, other) = (SessionToken::generate(), SessionToken::generate());
        assert!(one.proves(&hasher, &one.csrf(&hasher)));
        assert!(!one.proves(&hasher, &other.csrf(&hasher)) && !one.proves(&hasher, ""));
        assert!(SessionToken::read(one.reveal()).is_some());
        assert!(SessionToken::read("").is_none() && SessionToken::read(&"g".repeat(64)).is_none());
    }
}
