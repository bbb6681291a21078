//! One at a time for each key: duplicates inside this process queue up here, where waiting costs no connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{key::StorageKey, store::StoreErrorKind};

/// Holds when the store last gave no answer to one who went through, and why.
type Turnstile = tokio::sync::Mutex<Silence>;

type Silence = Option<(Instant, StoreErrorKind)>;

/// The keys that somebody in this process works on or waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<HashMap<StorageKey, Arc<Turnstile>>>>);

/// The right to work on one key, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gates: Gates,
    key: StorageKey,
    /// Taken when it is dropped.
    turnstile: Option<Arc<Turnstile>>,
    /// `None`: still waiting.
    turn: Option<OwnedMutexGuard<Silence>>,
}

impl Gates {
    /// Waits behind all who came before.
    pub(crate) async fn pass(&self, key: StorageKey) -> Pass {
        let turnstile = self.keys().entry(key).or_default().clone();
        // Made before the wait, so that one who gives up waiting tidies up as well.
        let mut pass = Pass { gates: self.clone(), key, turnstile: Some(turnstile.clone()), turn: None };
        pass.turn = Some(turnstile.lock_owned().await);
        pass
    }

    /// Whether somebody works on this key or waits for it.
    pub(crate) fn is_taken(&self, key: &StorageKey) -> bool {
        self.keys().contains_key(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StorageKey, Arc<Turnstile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The store gave no answer. Those that wait need not find out as well, one after the other.
    pub(crate) fn store_is_silent(&mut self, kind: StoreErrorKind) {
        if let Some(silent) = &mut self.turn {
            **silent = Some((Instant::now(), kind));
        }
    }

    /// Why the store gave no answer to somebody who had the pass since.
    pub(crate) fn store_was_silent(&self, since: Instant) -> Option<StoreErrorKind> {
        let (silent, kind) = self.turn.as_ref().and_then(|silence| **silence)?;
        (silent >= since).then_some(kind)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turn = None;
        let mut keys = self.gates.keys();
        // Before the count is looked at, and under the lock: of two that leave together the second sees that the first is gone.
        self.turnstile = None;
        // The table's alone: nobody else waits, and who comes finds the table locked.
        if keys.get(&self.key).is_some_and(|turnstile| Arc::strong_count(turnstile) == 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_gate_is_gone_though_its_last_two_leave_together() {
        const ROUNDS: usize = 20;
        let gates = Gates::default();
        let together = Barrier::new(2);
        let mut left = 0;
        // So many that the two meet at some, on however busy a machine.
        let keys = || {
            (0..5_000_u32).map(|key| {
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&key.to_be_bytes());
                StorageKey::from_bytes(bytes)
            })
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let passes: Vec<_> = keys().map(|key| gates.pass(key).now_or_never()).collect();
                    together.wait();
                    together.wait();
                    drop(passes);
                    together.wait();
                    together.wait();
                }
            });
            for _ in 0..ROUNDS {
                together.wait();
                let mut waiting: Vec<_> = keys().map(|key| Box::pin(gates.pass(key))).collect();
                let let_in = waiting.iter_mut().filter_map(|pass| pass.now_or_never()).count();
                together.wait();
                drop(waiting);
                together.wait();
                left = left.max(let_in).max(gates.keys().len());
                together.wait();
            }
        });
        assert_eq!(left, 0);
    }

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
