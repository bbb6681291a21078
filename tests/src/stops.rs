//! A store on whose steps a process stands still, so that a test can kill it right there.

use std::{
    fmt,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use idem_runtime::{
    StorageKey, Store,
    store::{
        Begun, Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
        StoreError, Transactions,
    },
};

/// Every step of an operation under a lease, in their order: what is about to be done, or was done a moment ago. The handler itself
/// has begun, and is done.
pub const LEASE_STEPS: [&str; 6] = ["claim", "claimed", "begun", "done", "complete", "completed"];

/// Every step of an operation in a transaction.
pub const TRANSACTION_STEPS: [&str; 10] =
    ["begin", "opened", "claim", "claimed", "begun", "done", "complete", "completed", "commit", "committed"];

/// The step at which everybody stands still, if there is one. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stops(Arc<Mutex<Option<String>>>);

impl Stops {
    /// From now on everybody who takes this step stands still at it, for ever.
    pub fn stop_at(&self, step: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(step.to_owned());
    }

    /// Takes a step, or says on standard output that it stands still at it.
    ///
    /// # Panics
    ///
    /// If nobody can be told.
    pub async fn at(&self, step: &str) {
        if self.any(&[step]) {
            writeln!(std::io::stdout(), "stopped at {step}").expect("the test listens");
            std::future::pending::<()>().await;
        }
    }

    /// Whether everybody stands still at one of these.
    fn any(&self, steps: &[&str]) -> bool {
        let at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.as_deref().is_some_and(|at| steps.contains(&at))
    }
}

/// A way to a store with stops before and behind each step that matters.
#[derive(Clone)]
pub struct Stopping<S> {
    store: S,
    stops: Stops,
}

impl<S> Stopping<S> {
    /// This way to `store`.
    pub fn new(store: S, stops: Stops) -> Self {
        Self { store, stops }
    }

    /// The store itself.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// A step between its two stops.
    async fn between<T>(&self, before: &str, step: impl Future<Output = T> + Send, after: &str) -> T {
        self.stops.at(before).await;
        let done = step.await;
        self.stops.at(after).await;
        done
    }
}

#[async_trait]
impl<S: Store> Store for Stopping<S> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.between("claim", self.store.claim(claim), "claimed").await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        self.between("claim", self.store.claim_many(claims), "claimed").await
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.store.renew(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.between("complete", self.store.complete(complete), "completed").await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.store.release(release).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.store.resolve(resolve).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.store.parked(parked).await
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.store.forget(key).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }
}

#[async_trait]
impl<S: Transactions> Transactions for Stopping<S> {
    type Connection = S::Connection;
    type Transaction = S::Transaction;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        self.between("begin", self.store.begin(), "opened").await
    }

    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<Self::Transaction>, StoreError> {
        // Step by step only where it is to stand still in between.
        if !self.stops.any(&["opened", "claim"]) {
            return self.between("begin", self.store.begin_and_claim(claim), "claimed").await;
        }
        let mut transaction = self.begin().await?;
        match self.claim_in(&mut transaction, claim).await? {
            Claimed::Won { fence, attempt } => Ok(Begun::Won { transaction, fence, attempt }),
            claimed => {
                self.rollback(transaction).await;
                Ok(Begun::NotWon(claimed))
            }
        }
    }

    async fn claim_in(&self, connection: &mut Self::Connection, claim: Claim) -> Result<Claimed, StoreError> {
        self.between("claim", self.store.claim_in(connection, claim), "claimed").await
    }

    async fn complete_in(
        &self,
        connection: &mut Self::Connection,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        self.between("complete", self.store.complete_in(connection, complete), "completed").await
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), StoreError> {
        self.between("commit", self.store.commit(transaction), "committed").await
    }

    async fn complete_and_commit(
        &self,
        mut transaction: Self::Transaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        if !self.stops.any(&["completed", "commit"]) {
            let both = self.store.complete_and_commit(transaction, complete);
            return self.between("complete", both, "committed").await;
        }
        let completed = self.complete_in(&mut transaction, complete).await.map_err(StoreError::not_committed)?;
        match completed {
            Ownership::Held => self.commit(transaction).await?,
            Ownership::Lost => self.rollback(transaction).await,
        }
        Ok(completed)
    }

    async fn rollback(&self, transaction: Self::Transaction) {
        self.store.rollback(transaction).await;
    }
}

impl<S: fmt::Debug> fmt::Debug for Stopping<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}
