//! The store under test, given a minute for each step.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Fixture, case::fail};
use crate::{
    key::StorageKey,
    store::{
        Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved, Store,
        StoreError,
    },
};

/// Longer than any store waits, however slow the machine: whoever has not answered by then never will.
const LIMIT: Duration = Duration::from_secs(60);

/// The fixture's store. A method that does not come to an end fails the law, which would wait for it else.
pub(super) async fn store_of(fixture: &dyn Fixture) -> Arc<dyn Store> {
    Arc::new(Limited(fixture.store().await))
}

#[derive(Debug)]
struct Limited(Arc<dyn Store>);

#[async_trait]
impl Store for Limited {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        within_the_limit("claim", self.0.claim(claim)).await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        within_the_limit("claim_many", self.0.claim_many(claims)).await
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        within_the_limit("renew", self.0.renew(renew)).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        within_the_limit("complete", self.0.complete(complete)).await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        within_the_limit("release", self.0.release(release)).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        within_the_limit("resolve", self.0.resolve(resolve)).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        within_the_limit("parked", self.0.parked(parked)).await
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        within_the_limit("forget", self.0.forget(key)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        within_the_limit("ping", self.0.ping()).await
    }
}

async fn within_the_limit<T>(step: &str, answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, answer).await.unwrap_or_else(|_| {
        fail(format_args!(
            "every method must come to an end by itself: `{step}` has not, {} seconds on",
            LIMIT.as_secs()
        ))
    })
}
