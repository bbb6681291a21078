//! Effects that their caller keeps: they may borrow, and they end with the future that runs them.

use std::future::Future;

use super::{CatchPanic, Claiming, Engine, Granted, Operation, Permit, Ran, Refusal, Settled, Slot, detach::Detached};
use crate::{
    key::StorageKey,
    record::Answer,
    store::{Resolve, Resolved, StoreError, Verdict},
};

impl Engine {
    /// As [`run`](Self::run) for an effect that cannot be handed to the runtime. Dropping this future cuts it: its lease runs
    /// out, and the operation is abandoned like that of a process that died.
    pub(crate) async fn run_in_place<T, F, Fut>(&self, operation: Operation, effect: F) -> Result<Ran<T>, Refusal>
    where
        F: FnOnce(Granted<'_>) -> Fut,
        Fut: Future<Output = Settled<T>>,
    {
        let turn = |effect| async move {
            let mut claiming = Claiming::new(self, &operation, effect);
            let ran = claiming.claim_and_run().await;
            claiming.turn(ran)
        };
        self.take_turns(&operation, effect, turn).await
    }

    /// Runs an effect that nobody can ask for again: to its end and drained, but nothing is claimed or recorded.
    pub(crate) async fn run_unclaimed<T, F, Fut>(&self, effect: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(Slot) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let engine = self.clone();
        let tracked = async move { engine.run_unclaimed_in_place(effect).await };
        Detached::new(tracked, self).await
    }

    /// The same for an effect that ends with this future.
    pub(crate) async fn run_unclaimed_in_place<T, F, Fut>(&self, effect: F) -> Result<T, Refusal>
    where
        F: FnOnce(Slot) -> Fut,
        Fut: Future<Output = T>,
    {
        let Some(_permit) = Permit::inside(self) else {
            self.0.counters.overloaded.add();
            return Err(Refusal::Overloaded);
        };
        let slot = Slot::default();
        self.fill_unclaimed(&slot);
        let value = CatchPanic::call(move || effect(slot)).await;
        self.0.counters.executed.add();
        value.map_err(|_| {
            self.panicked();
            Refusal::Panicked
        })
    }

    /// Parks an operation whose outcome is unknown.
    pub(crate) async fn park_unknown(&self, key: StorageKey, note: Answer) -> Result<Resolved, StoreError> {
        let resolved = self.0.store.resolve(&Resolve::new(key, Verdict::Parked(note))).await;
        match &resolved {
            Ok(Resolved::Applied) => self.0.counters.parked.add(),
            Ok(Resolved::NotUnknown) => {}
            Err(error) => {
                self.0.counters.store_errors.add();
                tracing::warn!(%key, %error, "an unknown outcome could not be parked");
            }
        }
        resolved
    }

    /// Counts a panic that the effect's owner caught.
    pub(crate) fn panicked(&self) {
        self.0.counters.panics.add();
    }
}
