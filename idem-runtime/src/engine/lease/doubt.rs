//! The operations that this process runs under a lease which may have run out.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::key::StorageKey;

#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// How many such operations run here of each key.
    keys: Mutex<HashMap<StorageKey, usize>>,
    /// How many keys there are, so that no claim takes the lock while there is none.
    count: AtomicUsize,
}

impl Doubt {
    /// Whether one with this key runs here.
    pub(super) fn is_about(&self, key: &StorageKey) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.keys().contains_key(key)
    }

    /// One more.
    pub(super) fn begin(&self, key: StorageKey) {
        let mut keys = self.keys();
        *keys.entry(key).or_default() += 1;
        self.count.store(keys.len(), Ordering::Release);
    }

    /// One less.
    pub(super) fn end(&self, key: &StorageKey) {
        let mut keys = self.keys();
        if let Some(count) = keys.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(key);
            }
        }
        self.count.store(keys.len(), Ordering::Release);
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StorageKey, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
