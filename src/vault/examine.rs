//! How the master key stands, without a running service and without changing
//! anything.

use super::choice::{Choice, Fault, Keys};
use super::key::KeyId;
use super::sql;
use crate::config::DataSection;
use crate::db::{self, DbFile};

/// How the master key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The database belongs to this key, and it is here.
    Here(KeyId),
    /// Nothing is sealed yet; the next start uses the key that is there, or makes
    /// one.
    Unused,
    /// The next start seals everything anew with another key.
    Changes,
    /// The service was given this key by its configuration, of which that part is
    /// not seen from here, such as a credential of its unit.
    Elsewhere(KeyId),
    /// The database may not be looked at by this user.
    Unseen(String),
}

/// Looks whether a start would find its master key.
///
/// # Errors
/// When it would not.
pub fn examine(data: &DataSection) -> Result<Standing, Fault> {
    let keys = Keys::look(data)?;
    let look = |tx: &db::Tx<'_>| Ok((sql::needed_key(tx)?, sql::was_configured(tx)?));
    let (wanted, was_configured) = match data.database.try_exists() {
        Ok(false) => (None, false),
        Ok(true) => match DbFile::open(&data.database).and_then(|file| Ok(file.read(look)?)) {
            Ok(found) => found,
            Err(error) => return Ok(Standing::Unseen(error.to_string())),
        },
        Err(error) => return Ok(Standing::Unseen(error.to_string())),
    };
    match keys.choose(wanted, &data.dir) {
        Ok(Choice::Use(key) | Choice::Promote(key)) if wanted.is_some() => Ok(Standing::Here(key.id())),
        Ok(Choice::Use(_) | Choice::Promote(_) | Choice::Make) => Ok(Standing::Unused),
        Ok(Choice::Change { .. }) => Ok(Standing::Changes),
        Err(Fault::Missing { wanted, .. }) if was_configured && !data.master_key.is_set() => {
            Ok(Standing::Elsewhere(wanted))
        }
        Err(fault) => Err(fault),
    }
}
