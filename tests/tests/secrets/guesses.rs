//! What a copy of the store confirms of what a request held.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::{Router, body::Body, http::Request, routing::post};
use idem_runtime::{
    Fingerprint, Idempotency, IdempotencyLayer, IdempotencySetup, MemoryStore, Operation, Policy, Principal, Store,
    consumer::Event,
    store::{Claim, Claimed, Complete, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved, StoreError},
};
use tower::ServiceExt;

use super::{BODY, PEPPER};

const POLICY: Policy = Policy::new("guesses").validate_for_events();

/// Sees every fingerprint that is to be kept.
#[derive(Debug, Clone, Default)]
struct Seen {
    store: MemoryStore,
    fingerprints: Arc<Mutex<Vec<Fingerprint>>>,
}

#[async_trait]
impl Store for Seen {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.fingerprints.lock().unwrap().push(claim.fingerprint);
        self.store.claim(claim).await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let mut claimed = Vec::new();
        for claim in claims {
            claimed.push(self.claim(*claim).await);
        }
        claimed
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.store.renew(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.store.complete(complete).await
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
}

/// The fingerprints that a store is shown of one request, one call and one event.
async fn shown(setup: impl FnOnce(IdempotencySetup) -> IdempotencySetup) -> Vec<Fingerprint> {
    let seen = Seen::default();
    let idempotency = setup(Idempotency::builder(seen.clone()).shared()).build();

    let guard = IdempotencyLayer::new(idempotency.clone(), POLICY);
    let router: Router = Router::new().route("/pay", post(async || "paid")).layer(guard);
    let request = Request::post("/pay").header("idempotency-key", "k").body(Body::from(BODY)).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 200);

    let operation = Operation::new(POLICY, Principal::SHARED, "k").fingerprint(Fingerprint::of_bytes(BODY.as_bytes()));
    idempotency.execute(operation, |_| async { Ok::<_, std::io::Error>(1) }).await.unwrap();

    let consumer = idempotency.consumer(POLICY);
    consumer.process(Event::new("evt", BODY), |_| async { Ok::<_, std::io::Error>(1) }).await.unwrap();

    seen.fingerprints.lock().unwrap().clone()
}

/// Whoever knows all of a request but the digits of a card would find them by hashing every card there is.
#[tokio::test]
async fn under_a_pepper_the_store_confirms_no_guess_of_a_request() {
    let plain = shown(|setup| setup).await;
    let sealed = shown(|setup| setup.pepper(PEPPER)).await;
    let of_another = shown(|setup| setup.pepper(b"another")).await;
    assert_eq!([plain.len(), sealed.len(), of_another.len()], [3; 3]);
    for fingerprint in &sealed {
        assert!(!plain.contains(fingerprint) && !of_another.contains(fingerprint));
    }
    assert_eq!(sealed, shown(|setup| setup.pepper(PEPPER)).await, "replicas with one pepper agree");
}
