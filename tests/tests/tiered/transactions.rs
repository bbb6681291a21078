//! The authority's transactions.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use idem_runtime::{
    Idempotency, Operation, Policy, PostgresStore, Principal, TieredStore, Tx,
    store::{Begun, Claimed, Ownership, Transactions, postgres::driver as sqlx},
};
use tests::claims::{answer, claim, complete, win};

use crate::support::{Both, require_replayed};

#[tokio::test]
async fn what_a_transaction_completes_is_copied_once_it_is_asked_for_outside() {
    let both = Both::start().await;
    let store = &both.store;

    let mut transaction = store.begin().await.unwrap();
    let won = store.claim_in(&mut transaction, claim(1, 1)).await.unwrap();
    assert!(matches!(won, Claimed::Won { attempt: 1, .. }), "{won:?}");
    assert_eq!(store.complete_in(&mut transaction, &complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    // Its own completion, which nobody else sees yet: no copy is made of it.
    let completed = Claimed::Completed { answer: Some(answer("body")) };
    assert_eq!(store.claim_in(&mut transaction, claim(1, 2)).await.unwrap(), completed);
    store.flush().await;
    assert!(!both.has_copy(1));
    store.commit(transaction).await.unwrap();
    require_replayed(store, 1, "body", "committed").await;
    store.flush().await;
    assert!(both.has_copy(1), "its first duplicate outside of transactions is copied");

    let mut transaction = store.begin().await.unwrap();
    store.claim_in(&mut transaction, claim(2, 1)).await.unwrap();
    assert_eq!(store.complete_in(&mut transaction, &complete(2, 1, "undone")).await.unwrap(), Ownership::Held);
    store.claim_in(&mut transaction, claim(2, 2)).await.unwrap();
    store.rollback(transaction).await;
    store.flush().await;
    assert!(!both.has_copy(2));
    win(store, claim(2, 1)).await;
}

#[tokio::test]
async fn a_transaction_sends_nothing_to_redis() {
    let both = Both::start().await;
    let store = &both.store;
    both.completed(1, "body").await;
    both.redis.run::<()>(&["CONFIG", "RESETSTAT"]);

    let completed = Claimed::Completed { answer: Some(answer("body")) };
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(store.claim_in(&mut transaction, claim(1, 2)).await.unwrap(), completed);
    let won = store.claim_in(&mut transaction, claim(2, 1)).await.unwrap();
    assert!(matches!(won, Claimed::Won { .. }), "{won:?}");
    let ownership = store.complete_and_commit(transaction, &complete(2, 1, "new")).await.unwrap();
    assert_eq!(ownership, Ownership::Held);
    for (at, text) in [(1, "body"), (2, "new")] {
        let Begun::NotWon(found) = store.begin_and_claim(claim(at, 2)).await.unwrap() else { panic!("won {at}") };
        assert_eq!(found, Claimed::Completed { answer: Some(answer(text)) });
    }
    store.flush().await;
    assert_eq!(both.redis.calls(), []);
}

/// A standby that takes over, or a Postgres after a power cut, may be without the last commits. In a transaction that is the
/// effect and the record: whoever trusted the copy would be told of money that never moved.
#[tokio::test]
async fn what_the_authority_lost_with_its_effect_runs_again_though_it_was_copied() {
    const MOVE: Policy = Policy::new("transfers").validate();
    let both = Both::start().await;
    both.postgres.run("CREATE TABLE ledger (entry text)");
    let entries = || both.postgres.run("SELECT count(*) FROM ledger");
    let runtime = Idempotency::builder(both.store.clone()).shared().build();
    let operation = || Operation::new(MOVE, Principal::new("acct_1"), "k");
    let runs = Arc::new(AtomicU32::new(0));
    let moved = async || {
        let runs = Arc::clone(&runs);
        let effect = move |mut tx: Tx<TieredStore<PostgresStore>>, _attempt| {
            let runs = Arc::clone(&runs);
            async move {
                sqlx::query("INSERT INTO ledger (entry) VALUES ('moved')").execute(tx.connection()).await.unwrap();
                Ok::<_, &str>(runs.fetch_add(1, Ordering::Relaxed) + 1)
            }
        };
        let moved = runtime.transact(&both.store, operation(), effect).await.unwrap();
        (moved.value, moved.replayed)
    };
    // Outside of transactions, where the copy answers.
    let copied = async || {
        let effect = |_attempt| async { Err::<u32, _>("it ran") };
        runtime.execute(operation(), effect).await.unwrap().value
    };

    assert_eq!(moved().await, (1, false));
    assert_eq!(copied().await, 1);
    both.store.flush().await;
    assert_eq!(both.redis.run::<u32>(&["DBSIZE"]), 1);
    assert_eq!(moved().await, (1, true));

    both.postgres.run("DELETE FROM ledger; DELETE FROM idem_records");
    assert_eq!(copied().await, 1, "there is a copy");
    assert_eq!(moved().await, (2, false));
    assert_eq!(entries(), "1");
    assert_eq!(moved().await, (2, true));

    // And in a transaction of the caller's own.
    both.postgres.run("DELETE FROM ledger; DELETE FROM idem_records");
    let mut transaction = both.store.begin().await.unwrap();
    let effect = async |_: &mut _, _attempt| Ok::<u32, &str>(3);
    let joined = runtime.execute_in(&both.store, &mut transaction, &operation(), effect).await.unwrap();
    assert_eq!((joined.value, joined.replayed), (3, false));
    both.store.rollback(transaction).await;
}
