//! Keeps over a restart by which time what is old is deleted, and says when the
//! clock was set. See docs/operations.md, "The clock jumped".

use std::time::{Duration, Instant};

use crate::clock::{Clock, HOLD, Held, Remembered};
use crate::db::{Db, Error, Tx, params};
use crate::id::moment_of;

/// In `meta`.
const KEY: &str = "clock";
/// How often it is written while the service runs.
const WRITE_EVERY: Duration = Duration::from_secs(600);

/// Goes on from what the process before knew; without that, from when something
/// was last written. A fresh database knows nothing: the clock counts as it is.
pub(super) async fn recall(db: &Db, clock: &Clock, last_no: i64) -> Result<(), Error> {
    let known = db.read(read).await?;
    let known = known.or_else(|| (last_no > 0).then(|| Remembered::since(moment_of(last_no))));
    let Some(known) = known else { return Ok(()) };
    clock.recall(known);
    if let Some(Held { ahead, left, .. }) = clock.held() {
        tracing::info!(
            behind_seconds = ahead.as_secs(),
            "what is old is judged by the time of the last stop until the clock has run on for {} h",
            left.as_secs().div_ceil(3600)
        );
    }
    Ok(())
}

fn read(tx: &Tx<'_>) -> Result<Option<Remembered>, Error> {
    let text = tx.one("SELECT value FROM meta WHERE key = ?1", [KEY], |row| row.get::<_, String>(0))?;
    // What cannot be read is as good as nothing.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

async fn write(db: &Db, known: Remembered) -> Result<(), Error> {
    let text = serde_json::to_string(&known).map_err(|error| Error::Sql(error.to_string()))?;
    let insert = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
    db.write(move |tx| tx.execute(insert, params![KEY, text])).await.map(drop)
}

/// Looks at the clock now and then.
pub(super) struct Watch {
    clock: Clock,
    written: Option<Instant>,
    held: bool,
}

impl Watch {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, written: None, held: false }
    }

    /// Says when the clock was set, and writes what has to be known at the next
    /// start, now and then.
    pub(super) async fn look(&mut self, db: &Db) {
        self.tell();
        if self.written.is_none_or(|written| written.elapsed() >= WRITE_EVERY) {
            self.written = Some(Instant::now());
            keep(db, &self.clock).await;
        }
    }

    fn tell(&mut self) {
        let held = self.clock.held().filter(|held| held.was_set);
        match held {
            Some(Held { ahead, .. }) if !self.held => tracing::warn!(
                seconds = ahead.as_secs(),
                "the clock was set forward: nothing is deleted for its age until it has run on like that for {} h; look \
                 whether the time is right (timedatectl)",
                HOLD.as_secs() / 3600
            ),
            None if self.held => tracing::info!("what is old is judged by the clock again"),
            _ => {}
        }
        self.held = held.is_some();
    }
}

/// Writes it down.
pub(super) async fn keep(db: &Db, clock: &Clock) {
    if let Err(error) = write(db, clock.remember()).await {
        tracing::warn!(%error, "how far the clock is trusted could not be written");
    }
}
