//! The authority's transactions.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use idem_runtime::{
    Idempotency, OnAbandoned, Operation, Policy, PostgresStore, Principal, Recover, Settlement, TieredStore, Tx,
    consumer::{Event, ProcessError},
    store::{Begun, Claimed, Ownership, Transactions, postgres::driver as sqlx, redis::RedisCache},
};
use tests::{
    claims::{answer, claim, complete, win},
    gate::Gate,
    servers::Proxy,
};

use crate::support::{Both, authority_at, require_replayed};

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

/// What became of such a commit is asked as a completion, behind which a copy is made outside of transactions: it would outlive an
/// effect that the authority loses a moment later.
#[tokio::test]
async fn a_commit_whose_reply_was_lost_leaves_no_copy() {
    let both = Both::start().await;
    let proxy = Arc::new(Proxy::start(both.postgres.port()).await);
    let authority = authority_at(&format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port())).await;
    let store = TieredStore::new(authority, RedisCache::server(&both.redis.url()).unwrap());
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let runs = Arc::new(AtomicU32::new(0));
    both.redis.run::<()>(&["CONFIG", "RESETSTAT"]);
    // The first one prepares the statements, so that of the second the reply behind that to the completion is the commit's.
    for (key, lost) in [("k-1", 0), ("k-2", 1)] {
        let (proxy, runs) = (Arc::clone(&proxy), Arc::clone(&runs));
        let effect = move |_: Tx<TieredStore<PostgresStore>>, _attempt| {
            runs.fetch_add(1, Ordering::Relaxed);
            if lost == 1 {
                proxy.lose_reply_after(1);
            }
            async { Ok::<_, &str>(1) }
        };
        let operation = Operation::new(Policy::new("transfers"), Principal::SHARED, key);
        let ran = runtime.transact(&store, operation, effect).await.unwrap();
        assert_eq!((ran.value, ran.replayed, runtime.metrics().store_errors), (1, false, lost));
    }
    assert_eq!(
        (runs.load(Ordering::Relaxed), both.postgres.run("SELECT count(*) FROM idem_records")),
        (2, "2".to_owned())
    );
    store.flush().await;
    assert_eq!(both.redis.calls(), []);
}

/// The attempt is counted beside its transaction, by a claim: had somebody else's been committed meanwhile, a copy would be made.
#[tokio::test]
async fn an_attempt_that_was_rolled_back_is_counted_without_redis() {
    let both = Both::start().await;
    let consumer = Idempotency::builder(both.store.clone()).shared().build().consumer(Policy::new("ledger"));
    both.redis.run::<()>(&["CONFIG", "RESETSTAT"]);
    for number in [1, 2] {
        let event = Event::new("e-1", "{}");
        let fails = |_: Tx<TieredStore<PostgresStore>>, _attempt| async { Err::<u32, _>("it fails") };
        let failed = consumer.transact(&both.store, event, fails).await.unwrap_err();
        assert!(matches!(failed, ProcessError::Failed { attempt, .. } if attempt == number), "{failed:?}");
    }
    both.store.flush().await;
    assert_eq!(both.redis.calls(), []);
}

/// What was abandoned under a lease is settled there, and then replayed from there.
#[tokio::test]
async fn what_a_transaction_finds_abandoned_is_settled_without_redis() {
    const ASKED: OnAbandoned =
        OnAbandoned::Recover(Recover::new(|_| Box::pin(async { Some(Settlement::returned(&7)) })));
    let both = Both::start().await;
    let operation = || Operation::new(Policy::new("transfers").on_abandoned(ASKED), Principal::SHARED, "k");
    let gate = Gate::new();
    let abandoned = tokio::spawn({
        let runtime = Idempotency::builder(both.store.authority().clone()).shared().build();
        let (gate, operation) = (gate.clone(), operation());
        let effect = async move |_attempt| {
            gate.pass().await;
            Ok::<u32, &str>(1)
        };
        async move { runtime.execute(operation, effect).await }
    });
    gate.reached().await;
    both.postgres.run("UPDATE idem_records SET until = 1");
    both.redis.run::<()>(&["CONFIG", "RESETSTAT"]);
    let runtime = Idempotency::builder(both.store.clone()).shared().build();
    let effect = |_: Tx<TieredStore<PostgresStore>>, _attempt| async { Err::<u32, _>("it ran") };
    let ran = runtime.transact(&both.store, operation(), effect).await.unwrap();
    assert_eq!((ran.value, ran.replayed, runtime.metrics().recovered), (7, true, 1));
    both.store.flush().await;
    assert_eq!(both.redis.calls(), []);
    abandoned.abort();
}
