//! Asking the recovery function what became of an operation whose owner vanished.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{CatchPanic, Engine, Operation, Refusal, UNSURE, ask_again};
use crate::{
    key::StorageKey,
    recovery::{Context, Recover, Unsettled},
    store::{Fence, Resolve, Resolved, Store},
};

/// What recovery functions are given.
#[derive(Debug, Clone)]
pub(crate) struct Recovery {
    /// What they reach the world through.
    pub(crate) context: Context,
    /// How long one may take.
    pub(crate) deadline: Duration,
}

/// The keys of which somebody in this process asks what became of them.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<HashSet<StorageKey>>);

/// The right to ask about one key, until it is dropped.
struct Asking<'a> {
    asked: &'a Asked,
    key: StorageKey,
}

/// What is said of an operation that somebody else asks about. Not to be waited for here, as whoever asks holds a place among the
/// operations in flight, and the provider has to answer once and no oftener.
pub(super) const IS_ASKED_ABOUT: Refusal = Refusal::InFlight { retry_after: UNSURE };

impl Asked {
    /// `None`: somebody asks already.
    fn begin(&self, key: StorageKey) -> Option<Asking<'_>> {
        let begins = self.keys().insert(key);
        begins.then(|| Asking { asked: self, key })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<StorageKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.asked.keys().remove(&self.key);
    }
}

impl Engine {
    /// Asks the recovery function about the owner of this fence, one at a time. Whether the record may be another one now; `Err`: somebody
    /// else asks. Those who waited for that one's word share it.
    pub(super) async fn recover(
        &self,
        store: &(impl Store + ?Sized),
        operation: &Operation,
        ask: Recover,
        fence: Fence,
        attempt: u32,
    ) -> Result<bool, Refusal> {
        let asking = self.0.asked.begin(operation.key).ok_or(IS_ASKED_ABOUT)?;
        if self.0.waiters.know_that_nobody_can_tell(&operation.key, fence) {
            return Ok(false);
        }
        let settled = self.ask(store, operation, ask, fence, attempt).await;
        if !settled {
            self.0.waiters.hear_that_nobody_can_tell(&operation.key, fence);
        }
        drop(asking);
        self.0.waiters.wake(&operation.key);
        Ok(settled)
    }

    async fn ask(
        &self,
        store: &(impl Store + ?Sized),
        operation: &Operation,
        ask: Recover,
        fence: Fence,
        attempt: u32,
    ) -> bool {
        let Recovery { context, deadline } = self.0.recovery.clone();
        let unsettled = Unsettled::new(operation.key, fence, attempt, context);
        let found = tokio::time::timeout(deadline, CatchPanic::call(|| ask.ask(unsettled))).await;
        let complaint = match found {
            Ok(Ok(Some(settlement))) => {
                let verdict = settlement.verdict(operation.terms.ttl, operation.terms.remember);
                let resolve = Resolve::new(operation.key, verdict).fence(fence);
                match ask_again(|| store.resolve(&resolve), &mut false).await {
                    Ok(Resolved::Applied) => self.0.counters.recovered.add(),
                    // Somebody else was faster, or this was applied unseen.
                    Ok(Resolved::NotUnknown) => {}
                    Err(error) => {
                        self.0.counters.store_errors.add();
                        tracing::warn!(key = %operation.key, %error, "what the recovery function found could not be recorded");
                        return false;
                    }
                }
                return true;
            }
            Ok(Ok(None)) => "the recovery function cannot tell yet",
            Ok(Err(_)) => {
                self.0.counters.panics.add();
                "the recovery function panicked"
            }
            Err(_) => "the recovery function gave no word within `recovery_deadline`",
        };
        tracing::warn!(key = %operation.key, "an outcome stays unknown: {complaint}");
        false
    }
}
