//! What an operator asks for: records that are found and forgotten, and whether the store is there.

use std::time::Duration;

use idem_runtime::{
    Fingerprint, MemoryStore, Operation, Principal, Refusal, Store,
    store::{Claim, Claimed, Forgotten, StoreErrorKind, Token},
};
use tests::{
    faulty_store::{Fault, Step},
    probe::Runs,
};

use crate::{standing::Standing, support::*};

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_forgotten_runs_again() {
    for policy in BOTH {
        let (_store, idempotency) = faulty();
        let runs = Runs::default();
        assert_eq!(idempotency.forget(&operation(policy)).await.unwrap(), Forgotten::Absent);
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        assert_eq!(idempotency.forget(&operation(policy)).await.unwrap(), Forgotten::Done);
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        assert_eq!(runs.begun(), 2);
    }
}

/// The store may take for abandoned what runs here, and has not heard of what ran.
#[tokio::test(start_paused = true)]
async fn what_runs_or_waits_for_the_store_here_is_not_forgotten() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    let first = Standing::start(&idempotency, RETRY, &runs, Ok("paid")).await;
    assert_eq!(idempotency.forget(&operation(RETRY)).await.unwrap(), Forgotten::InFlight);
    store.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    // Another one would have to ask the store, which does not even know of the record any more.
    store.replace(memory());
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_eq!(idempotency.forget(&operation(RETRY)).await.unwrap(), Forgotten::InFlight, "runs");
    assert_fresh(&first.finish().await);
    assert_eq!(idempotency.forget(&operation(RETRY)).await.unwrap(), Forgotten::InFlight, "waits");
    store.heal();
    settled(&idempotency).await;
    assert_eq!(idempotency.forget(&operation(RETRY)).await.unwrap(), Forgotten::Done);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_store_does_not_forget_is_an_error() {
    let (store, idempotency) = faulty();
    store.fail(Step::Forget, Fault::Refused(StoreErrorKind::Unreachable));
    let error = idempotency.forget(&operation(RETRY)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
}

#[tokio::test]
async fn the_storage_key_names_the_record_of_the_operation() {
    let store = MemoryStore::new();
    let idempotency = runtime(store.clone());
    assert_fresh(&pay(&idempotency, RETRY, &Runs::default()).await);
    let key = idempotency.storage_key(&operation(RETRY)).unwrap();
    let stranger = Token::from_bytes([1; 16]);
    let claim = Claim::new(key, stranger, Fingerprint::of_bytes(b""), LEASE);
    assert!(matches!(store.claim(claim).await.unwrap(), Claimed::Completed { answer: Some(_) }));

    for unnamed in [Operation::new(RETRY, Principal::SHARED, ""), Operation::new(RETRY, Principal::new(""), "key-1")] {
        assert_eq!(idempotency.storage_key(&unnamed).unwrap_err(), Refusal::Unnamed);
        assert_eq!(idempotency.forget(&unnamed).await.unwrap(), Forgotten::Absent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_the_stores() {
    let (store, idempotency) = faulty();
    idempotency.ping().await.unwrap();
    store.fail(Step::Ping, Fault::Refused(StoreErrorKind::Misconfigured));
    assert_eq!(idempotency.ping().await.unwrap_err().kind(), StoreErrorKind::Misconfigured);
}
