//! Who waits for the file's lock gets it in an order in which no operation that still runs is taken for abandoned.

use std::time::Duration;

use idem_runtime::{
    SqliteStore, Store,
    store::{Claimed, Ownership, Renew, StoreErrorKind, Transactions},
};
use tests::claims::*;
use tokio::{join, task::yield_now};

use crate::{Place, SOON, refused};

type Transaction = <SqliteStore as Transactions>::Transaction;

/// An operation under key 1 whose lease has run out while a transaction of the same process holds the lock.
async fn behind_a_transaction(place: &Place, store: &SqliteStore) -> Transaction {
    win(store, claim(1, 7)).await;
    let transaction = store.begin().await.unwrap();
    place.clock.advance(LEASE + Duration::from_secs(1));
    transaction
}

/// Lets the writer take what was sent to it, and wait for the lock with it.
async fn wait_for_the_lock() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// What the owner of key 1 comes to, and a claim of it that has waited longer.
async fn behind_a_claim<T>(place: &Place, store: &SqliteStore, owners: impl Future<Output = T>) -> (Claimed, T) {
    let transaction = behind_a_transaction(place, store).await;
    let (claimed, done, ()) = join!(
        biased;
        store.claim(claim(1, 8)),
        async {
            wait_for_the_lock().await;
            owners.await
        },
        async {
            wait_for_the_lock().await;
            store.rollback(transaction).await;
        },
    );
    (claimed.unwrap(), done)
}

#[tokio::test]
async fn a_completion_goes_before_the_claims_that_waited_longer() {
    let place = Place::new();
    let store = place.open().await;
    let (claimed, completed) = behind_a_claim(&place, &store, store.complete(&complete(1, 7, "done"))).await;
    assert_eq!(completed.unwrap(), Ownership::Held);
    assert_eq!(claimed, Claimed::Completed { answer: Some(answer("done")) });
}

#[tokio::test]
async fn a_renewal_goes_before_the_claims_that_waited_longer() {
    let place = Place::new();
    let store = place.open().await;
    let (claimed, renewed) = behind_a_claim(&place, &store, store.renew(Renew::of(&claim(1, 7)))).await;
    assert_eq!(renewed.unwrap(), Ownership::Held);
    assert!(matches!(claimed, Claimed::Busy { .. }));
}

/// Whoever holds the lease asks again only later.
#[tokio::test]
async fn a_renewal_that_did_not_get_the_lock_is_made_up_for_before_any_claim() {
    let place = Place::new();
    let store = place.open_impatient().await;
    let transaction = behind_a_transaction(&place, &store).await;
    for _ in 0..2 {
        refused(store.renew(Renew::of(&claim(1, 7))).await, StoreErrorKind::Unreachable);
    }
    store.rollback(transaction).await;
    assert!(matches!(store.claim(claim(1, 8)).await.unwrap(), Claimed::Busy { .. }));
    assert_eq!(store.complete(&complete(1, 7, "done")).await.unwrap(), Ownership::Held);
    // It is made up for once: this lease runs out.
    win(&store, claim(2, 7)).await;
    place.clock.advance(LEASE + Duration::from_secs(1));
    assert_eq!(win(&store, claim(2, 8)).await.1, 2);
}

/// Nobody would run what it won, and nobody could give it back in time.
#[tokio::test]
async fn a_claim_is_not_taken_once_nobody_waits_for_it() {
    let place = Place::new();
    let store = place.open().await;
    let transaction = behind_a_transaction(&place, &store).await;
    let given_up = tokio::time::timeout(SOON, store.claim(claim(1, 8))).await;
    assert!(given_up.is_err(), "{given_up:?}");
    store.rollback(transaction).await;
    // The writer takes what waits in this order.
    win(&store, claim(2, 7)).await;
    assert_eq!(store.complete(&complete(1, 7, "done")).await.unwrap(), Ownership::Held);
}
