//! Transactions whose server dies, stands still or loses the reply to a commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use idem_runtime::{
    ExecuteError, Idempotency, Operation, Policy, Principal, Refusal, Store,
    store::{Begun, Claimed, Ownership, StoreErrorKind, Transactions, postgres::driver as sqlx},
};
use sqlx::Executor;
use tests::{
    claims::{answer, claim, complete, win},
    servers::{PostgresServer, Proxy, eventually_async},
};

use crate::support::*;

/// Nobody knows what became of a commit whose reply was lost: whoever claims again with the same token is told.
#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_settled_by_claiming_again() {
    let world = World::start().await;
    let proxy = Proxy::start(PostgresServer::shared().port()).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let store = world.postgres.builder().connect(&url).await.unwrap();
    // The second reply is that of the commit itself; with the first one lost it was never sent.
    for (at, passed, committed) in [(1, 0, false), (2, 1, true), (3, 0, false), (4, 1, true)] {
        let mut transaction = store.begin().await.unwrap();
        assert!(is_won(&store.claim_in(&mut transaction, claim(at, 1)).await.unwrap()));
        assert_eq!(store.complete_in(&mut transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
        proxy.lose_reply_after(passed);
        let error = store.commit(transaction).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");

        let mut again = store.begin().await.unwrap();
        let claimed = store.claim_in(&mut again, claim(at, 1)).await.unwrap();
        store.rollback(again).await;
        match committed {
            true => assert_eq!(claimed, Claimed::Completed { answer: Some(answer("a")) }),
            false => assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}"),
        }
    }
}

/// Of a completion whose reply was lost everybody knows what became of it: nothing was committed.
#[tokio::test]
async fn a_commit_behind_a_completion_is_in_doubt_only_if_it_was_sent() {
    let world = World::start().await;
    let proxy = Proxy::start(PostgresServer::shared().port()).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let store = world.postgres.builder().connect(&url).await.unwrap();
    for at in 0..4 {
        let Begun::Won { mut transaction, .. } = store.begin_and_claim(claim(at, 1)).await.unwrap() else { panic!() };
        // With this one the statement is prepared, whose reply would be the one that is lost.
        assert_eq!(store.complete_in(&mut transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
        let sent = at % 2;
        proxy.lose_reply_after(sent as usize);
        let error = store.complete_and_commit(transaction, &complete(at, 1, "a")).await.unwrap_err();
        match sent {
            0 => assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}"),
            _ => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
        match (sent, store.begin_and_claim(claim(at, 1)).await.unwrap()) {
            (0, Begun::Won { transaction, attempt: 1, .. }) => store.rollback(transaction).await,
            (1, Begun::NotWon(claimed)) => assert_eq!(claimed, Claimed::Completed { answer: Some(answer("a")) }),
            (_, begun) => panic!("{begun:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_or_silent_server_costs_a_transaction_no_more_than_its_time_out() {
    let mut server = migrated(&[]).await;
    let store = hasty().lock_timeout(TIMEOUT).max_transactions(3).connect(&server.url()).await.unwrap();
    for dies in [true, false] {
        let mut open = store.begin().await.unwrap();
        assert!(is_won(&store.claim_in(&mut open, claim(1, 1)).await.unwrap()));
        if dies {
            server.kill();
        } else {
            server.pause();
        }
        let all: Vec<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    (store.begin().await.map(drop), begun.elapsed())
                })
            })
            .collect();
        let begun = Instant::now();
        let error = store.complete_in(&mut open, &complete(1, 1, "a")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
        for one in all {
            let (began, took) = one.await.unwrap();
            assert_eq!(began.unwrap_err().kind(), StoreErrorKind::Unreachable);
            assert!(took < TIMEOUT + BEYOND, "{took:?}");
        }
        let begun = Instant::now();
        store.rollback(open).await;
        assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
        if dies {
            server.restart();
        } else {
            server.resume();
        }
        eventually_async("the store finds the server again", Duration::from_secs(10), async || {
            let transaction = store.begin().await.ok()?;
            store.rollback(transaction).await;
            Some(())
        })
        .await;
        // Nothing of what was open is left.
        eventually_async("the claim is undone", Duration::from_secs(10), async || {
            store.claim(claim(1, 2)).await.ok().filter(is_won)
        })
        .await;
        let released = idem_runtime::store::Release::new(tests::claims::key(1), tests::claims::token(2));
        assert_eq!(store.release(released).await.unwrap(), Ownership::Held);
        // And all the places are free.
        let mut transactions = Vec::new();
        for _ in 0..3 {
            transactions.push(store.begin().await.unwrap());
        }
        win(&store, claim(9, 1)).await;
        for transaction in transactions {
            store.rollback(transaction).await;
        }
    }
}

/// A constraint that is looked at by the commit alone: its refusal is an answer, and what it refused is undone.
#[tokio::test]
async fn a_commit_that_the_server_refuses_is_not_in_doubt() {
    let world = World::start().await;
    let schema = world.postgres.schema();
    world.run(&format!("CREATE TABLE {schema}.parents (id INT PRIMARY KEY)")).await;
    let deferred = "DEFERRABLE INITIALLY DEFERRED";
    world.run(&format!("CREATE TABLE {schema}.children (parent INT REFERENCES {schema}.parents {deferred})")).await;
    let orphan = format!("INSERT INTO {schema}.children VALUES (7)");
    for completes in [false, true] {
        let Begun::Won { mut transaction, .. } = world.store.begin_and_claim(claim(1, 1)).await.unwrap() else {
            panic!()
        };
        transaction.execute(sqlx::AssertSqlSafe(orphan.clone())).await.unwrap();
        let committed = match completes {
            false => world.store.commit(transaction).await,
            true => world.store.complete_and_commit(transaction, &complete(1, 1, "a")).await.map(drop),
        };
        let error = committed.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("23503"), "{error}");
    }
    let idempotency = Idempotency::builder(world.store.clone()).shared().build();
    let runs = Arc::new(AtomicUsize::new(0));
    let operation = Operation::new(Policy::new("orphans"), Principal::SHARED, "key-1");
    let ran = idempotency.transact(&world.store, operation, {
        let runs = runs.clone();
        move |mut tx, _| {
            runs.fetch_add(1, SeqCst);
            let orphan = orphan.clone();
            async move {
                tx.execute(sqlx::AssertSqlSafe(orphan)).await.map_err(|error| error.to_string())?;
                Ok::<_, String>(1)
            }
        }
    });
    assert!(matches!(ran.await, Err(ExecuteError::Refused(Refusal::Unavailable { .. }))));
    assert_eq!(runs.load(SeqCst), 1, "it would only be refused again");
    assert_eq!(world.number(&format!("SELECT count(*) FROM {schema}.children")).await, 0);
}
