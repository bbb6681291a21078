//! What is left to do once a transaction is rolled back: to count the attempt, to park the event, or to keep in mind
//! what was found.
//!
//! The claim that finds an operation abandoned which must not be run again makes its record unknown, and that is undone
//! with the transaction of which it is a part. So where that is the caller's own, it is found once more, in one of the
//! store's.

use tokio::time::Instant;

use super::{
    Closing, Engine, Operation, Permit, Recording, ask_again,
    transact::{BEGIN_AGAIN, SETTLE},
    wait::jittered,
};
use crate::store::{Begun, Claim, Claimed, Ownership, StoreError, StoreErrorKind, Transactions};

impl Engine {
    /// Records what an operation came to whose transaction was rolled back. `recording` is told which attempt it was. `Err`: why
    /// the store does not have it. If somebody else runs by now, it is theirs to record.
    pub(crate) async fn settle_apart(
        &self,
        store: &impl Transactions,
        operation: Operation,
        claim: Claim,
        recording: impl FnOnce(u32) -> Recording,
    ) -> Result<(), StoreErrorKind> {
        if self.known_here::<()>(&operation, Instant::now()).is_some() {
            return Err(StoreErrorKind::Conflict);
        }
        let store = store.authority();
        let mut taken_perhaps = false;
        let recording = match ask_again(|| store.claim(claim), &mut taken_perhaps).await {
            Ok(Claimed::Won { attempt, .. }) => recording(attempt),
            Ok(_) => return Err(StoreErrorKind::Conflict),
            Err(error) => {
                if taken_perhaps {
                    self.0.aftermath.give_back(claim, operation.terms.remember);
                }
                return Err(self.not_settled(&claim, &error));
            }
        };
        let closing = operation.close(claim.token, recording);
        let settled = match &closing {
            Closing::Complete(complete) => ask_again(|| store.complete(complete), &mut false).await,
            Closing::Release(release) => ask_again(|| store.release(*release), &mut false).await,
        };
        match settled {
            Ok(Ownership::Held) => {
                if closing.parks() {
                    self.0.counters.parked.add();
                }
                self.0.waiters.wake(&claim.key);
                Ok(())
            }
            Ok(Ownership::Lost) => Err(StoreErrorKind::Conflict),
            Err(error) => {
                // It is offered until the store has it: what is undone must not look abandoned once the lease is out.
                match closing {
                    Closing::Complete(complete) => self.0.aftermath.complete(claim, complete, None),
                    Closing::Release(release) => self.0.aftermath.withdraw(release),
                }
                Err(self.not_settled(&claim, &error))
            }
        }
    }

    fn not_settled(&self, claim: &Claim, error: &StoreError) -> StoreErrorKind {
        self.0.counters.store_errors.add();
        tracing::warn!(key = %claim.key, %error, "an attempt that was rolled back could not be counted");
        error.kind()
    }

    /// Whether the outcome of an operation is unknown. One that was abandoned and is not to be run again is so from
    /// then on.
    pub(crate) async fn is_unknown<D: Transactions>(
        &self,
        store: &D,
        operation: &Operation,
    ) -> Result<bool, StoreError> {
        let claimed = self.look_apart(store, operation).await;
        claimed.map(|claimed| matches!(claimed, Some(Claimed::Unknown { .. })))
    }

    /// The same once the caller's transaction is over: whoever settles the operation then finds it unknown. If that
    /// takes longer than a caller takes to roll back, the next call finds it.
    pub(crate) fn find_unknown_apart<D: Transactions>(&self, store: &D, operation: &Operation) {
        let Some(permit) = Permit::inside(self) else { return };
        let (store, operation, deadline) = (store.clone(), *operation, Instant::now() + SETTLE);
        tokio::spawn(async move {
            loop {
                match permit.look_apart(&store, &operation).await {
                    Ok(Some(Claimed::Busy { .. })) | Err(_) if Instant::now() < deadline => {}
                    _ => return,
                }
                tokio::time::sleep(jittered(BEGIN_AGAIN)).await;
            }
        });
    }

    /// What a claim finds that is not to be won; `None`: it would be, or this process runs the operation.
    async fn look_apart<D: Transactions>(
        &self,
        store: &D,
        operation: &Operation,
    ) -> Result<Option<Claimed>, StoreError> {
        if self.known_here::<()>(operation, Instant::now()).is_some() {
            return Ok(None);
        }
        let claim = operation.claim();
        match store.begin_and_claim(claim).await? {
            Begun::Won { transaction, .. } => {
                store.rollback(transaction).await;
                Ok(None)
            }
            Begun::NotWon(claimed) => {
                Ok(Some(claimed).filter(|claimed| self.owner_here(&claim.key, claim.token, claimed).is_none()))
            }
        }
    }
}
