//! The master keys in memory.

use std::sync::{Arc, PoisonError, RwLock};

use super::key::{Key, KeyId};

/// Those that were right at some time of this process: whoever reads an older
/// state of the database still needs the one before.
#[derive(Clone)]
pub(super) struct Ring(Arc<RwLock<Vec<Arc<Key>>>>);

impl Ring {
    pub(super) fn new(keys: impl IntoIterator<Item = Arc<Key>>) -> Self {
        Self(Arc::new(RwLock::new(keys.into_iter().collect())))
    }

    pub(super) fn add(&self, key: Arc<Key>) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !keys.iter().any(|known| known.id() == key.id()) {
            keys.push(key);
        }
    }

    pub(super) fn get(&self, id: KeyId) -> Option<Arc<Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().find(|key| key.id() == id).cloned()
    }
}
