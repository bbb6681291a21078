//! One at a time for each key: duplicates inside this process queue up here, where waiting costs no connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::key::StorageKey;

/// Holds when the store last gave no answer to one who went through.
type Turnstile = tokio::sync::Mutex<Option<Instant>>;

/// The keys that somebody in this process works on or waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<HashMap<StorageKey, Arc<Turnstile>>>>);

/// The right to work on one key, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gates: Gates,
    key: StorageKey,
    turnstile: Arc<Turnstile>,
    /// `None`: still waiting.
    turn: Option<OwnedMutexGuard<Option<Instant>>>,
}

impl Gates {
    /// Waits behind all who came before.
    pub(crate) async fn pass(&self, key: StorageKey) -> Pass {
        let turnstile = self.keys().entry(key).or_default().clone();
        // Made before the wait, so that one who gives up waiting tidies up as well.
        let mut pass = Pass { gates: self.clone(), key, turnstile, turn: None };
        pass.turn = Some(pass.turnstile.clone().lock_owned().await);
        pass
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StorageKey, Arc<Turnstile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The store gave no answer. Those that wait need not find out as well, one after the other.
    pub(crate) fn store_is_silent(&mut self) {
        if let Some(silent) = &mut self.turn {
            **silent = Some(Instant::now());
        }
    }

    /// Whether the store gave no answer to somebody who had the pass since.
    pub(crate) fn store_was_silent(&self, since: Instant) -> bool {
        self.turn.as_ref().and_then(|silent| **silent).is_some_and(|silent| silent >= since)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turn = None;
        let mut keys = self.gates.keys();
        // The table's and ours: nobody else waits, and who comes finds the table locked.
        if Arc::strong_count(&self.turnstile) == 2 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_gate_lets_one_in_and_is_gone_with_the_last() {
        let gates = Gates::default();
        let key = StorageKey::from_bytes([1; 32]);
        let first = gates.pass(key).await;
        let mut second = std::pin::pin!(gates.pass(key));
        let mut third = Box::pin(gates.pass(key));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(gates.pass(StorageKey::from_bytes([2; 32])).await);
        assert_eq!(gates.keys().len(), 1, "another key has a gate of its own");
        drop(third);
        drop(first);
        drop(second.await);
        assert!(gates.keys().is_empty());
    }
}
