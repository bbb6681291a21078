//! Asking the recovery function what became of an operation whose owner vanished.

use std::time::Duration;

use super::{CatchPanic, Engine, Operation, ask_again};
use crate::{
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

impl Engine {
    /// Asks the recovery function about the owner of this fence. Whether the record may be another one now.
    pub(super) async fn recover(
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
