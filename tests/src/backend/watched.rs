//! A store whose steps are counted on their way to another.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{
    StorageKey, Store,
    store::{
        Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
        StoreError,
    },
};
use tokio::sync::watch;

/// Counts the steps that were taken. Clones count together.
#[derive(Clone)]
pub struct Watched {
    store: Arc<dyn Store>,
    steps: Arc<watch::Sender<Steps>>,
}

/// How many steps of each kind were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// Claims, won or not.
    pub claims: usize,
    /// Round trips of many claims.
    pub batches: usize,
    /// Renewals.
    pub renewals: usize,
    /// Completions.
    pub completions: usize,
    /// Releases.
    pub releases: usize,
    /// Verdicts.
    pub resolutions: usize,
}

impl Watched {
    /// A way to `store` that counts.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, steps: Arc::new(watch::Sender::new(Steps::default())) }
    }

    /// What was counted so far.
    #[must_use]
    pub fn steps(&self) -> Steps {
        *self.steps.borrow()
    }

    /// Waits until what was counted is `enough`.
    ///
    /// # Panics
    ///
    /// If it is not within half a minute.
    pub async fn until(&self, what: &str, enough: impl Fn(&Steps) -> bool) {
        let mut steps = self.steps.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(30), steps.wait_for(|steps| enough(steps))).await;
        assert!(matches!(waited, Ok(Ok(_))), "not within half a minute: {what}; {:?}", self.steps());
    }

    fn count(&self, step: impl FnOnce(&mut Steps)) {
        self.steps.send_modify(step);
    }
}

#[async_trait]
impl Store for Watched {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let claimed = self.store.claim(claim).await;
        self.count(|steps| steps.claims += 1);
        claimed
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let claimed = self.store.claim_many(claims).await;
        self.count(|steps| {
            steps.claims += claims.len();
            steps.batches += 1;
        });
        claimed
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        let renewed = self.store.renew(renew).await;
        self.count(|steps| steps.renewals += 1);
        renewed
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        let completed = self.store.complete(complete).await;
        self.count(|steps| steps.completions += 1);
        completed
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        let released = self.store.release(release).await;
        self.count(|steps| steps.releases += 1);
        released
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        let resolved = self.store.resolve(resolve).await;
        self.count(|steps| steps.resolutions += 1);
        resolved
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

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("steps", &self.steps()).finish_non_exhaustive()
    }
}
