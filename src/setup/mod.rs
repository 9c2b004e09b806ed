//! The first user of a fresh service. As long as there is none the service is
//! in setup: whoever shows a token that only this machine's administrator can
//! read makes that user, once.

mod routes;
mod token;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::StatusCode;

pub use routes::routes;

use crate::auth::ApiKey;
use crate::clock::{Clock, Timestamp};
use crate::db::{self, Db, Tx};
use crate::http::Problem;
use crate::tenants::{FirstTenant, MadeTenant, Tenants};
use crate::users::{Hashed, UserName, UserRow, Users};
use token::Token;

/// The service. One per process, behind an `Arc`.
pub struct Setup {
    db: Db,
    clock: Clock,
    users: Arc<Users>,
    tenants: Arc<Tenants>,
    /// Where the token can be read.
    file: PathBuf,
    token: Mutex<Option<Token>>,
}

/// What the first user and the first tenant are made of.
struct Wanted {
    name: UserName,
    password: Hashed,
    tenant: Option<(FirstTenant, ApiKey)>,
}

/// What was made.
struct Done {
    user: UserRow,
    /// The tenant's id, with its key.
    tenant: Option<(String, ApiKey)>,
}

impl Setup {
    /// The token's file lies in `runtime`, which systemd makes for the service,
    /// or else in the data folder.
    #[must_use]
    pub fn new(
        db: Db,
        clock: Clock,
        users: Arc<Users>,
        tenants: Arc<Tenants>,
        data: PathBuf,
        runtime: Option<PathBuf>,
    ) -> Self {
        let file = runtime.unwrap_or(data).join("setup-token");
        Self { db, clock, users, tenants, file, token: Mutex::default() }
    }

    /// Gives out the first token, where one is needed. A token of an earlier run
    /// does not count any more.
    pub fn begin(&self) {
        if self.users.any() {
            return self.forget();
        }
        let (_, ends_at) = self.renew();
        let file = self.file.display();
        tracing::info!(%file, %ends_at, "not set up yet; agentd setup makes the first user");
    }

    /// Forgets the token and removes its file.
    pub fn forget(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = std::fs::remove_file(&self.file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %self.file.display(), "an old setup token cannot be removed");
        }
    }

    /// A new token in the place of the one there is; its text, and when it ends.
    fn renew(&self) -> (String, Timestamp) {
        let (token, text) = Token::generate(self.clock.now());
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let ends_at = token.ends_at;
        *kept = Some(token);
        // It can still be had over the control socket.
        if let Err(error) = token::write(&self.file, &text) {
            tracing::warn!(%error, file = %self.file.display(), "the setup token cannot be written to its file");
        }
        (text, ends_at)
    }

    /// Whether this is the token. Never says what is wrong with it.
    fn check(&self, presented: &str) -> Result<(), Problem> {
        let now = self.clock.now();
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|token| token.is(presented, now)) {
            return Ok(());
        }
        let detail = "this setup token does not count";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with_hint(format!(
            "the token in {} counts for an hour from the start of the service; agentd setup asks for a new one",
            self.file.display()
        )))
    }

    /// Makes the first user. Of several at once one does.
    async fn complete(&self, wanted: Wanted) -> Result<Done, Problem> {
        let now = self.clock.now();
        let (users, tenants) = (self.users.clone(), self.tenants.clone());
        let Wanted { name, password, tenant } = wanted;
        let (first, key) = tenant.unzip();
        let work = move |tx: &Tx<'_>| -> Result<Option<(UserRow, Option<MadeTenant>)>, db::Error> {
            let Some(user) = Users::insert_first(tx, &name, &password, now)? else { return Ok(None) };
            let tenant = first.as_ref().map(|first| first.write(tx, now)).transpose()?;
            Ok(Some((user, tenant)))
        };
        let after = move |made: &Option<(UserRow, Option<MadeTenant>)>| {
            if let Some((_, tenant)) = made {
                users.made();
                if let Some(made) = tenant {
                    tenants.made_first(made);
                }
            }
        };
        let (user, made) = self.db.write_then(work, after).await?.ok_or_else(already_set_up)?;
        self.forget();
        Ok(Done { user, tenant: made.map(|made| made.tenant.id).zip(key) })
    }
}

fn already_set_up() -> Problem {
    Problem::conflict("already_set_up", "the service has been set up")
        .with_hint("agentd admin list shows its users; agentd admin reset-password NAME gives one a new password")
}
