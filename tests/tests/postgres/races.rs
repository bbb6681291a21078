//! Claims in the same moment.

use std::{collections::HashSet, sync::Arc, time::Duration};

use idem_runtime::{
    PostgresStore, Store,
    store::{Claimed, Ownership, Release, StoreErrorKind, Transactions, postgres::driver as sqlx},
};
use tests::{
    claims::{claim, complete, key, token, win},
    servers::PostgresServer,
};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::*;

/// Rounds of claims at once for a key each: exactly one is won, and whoever loses sees the winner's record.
async fn race(stores: Vec<PostgresStore>, rounds: u32) {
    let barrier = Arc::new(Barrier::new(stores.len()));
    let mut all = JoinSet::new();
    for (by, store) in (1..).zip(stores) {
        let barrier = barrier.clone();
        all.spawn(async move {
            let mut won = HashSet::new();
            for at in 0..rounds {
                barrier.wait().await;
                match store.claim(claim(at, by)).await {
                    Ok(Claimed::Won { attempt: 1, .. }) => assert!(won.insert(at)),
                    Ok(Claimed::Busy { retry_after }) => assert!(retry_after > Duration::from_secs(20)),
                    other => panic!("round {at}: {other:?}"),
                }
            }
            won
        });
    }
    let won = all.join_all().await;
    assert_eq!(won.iter().map(HashSet::len).sum::<usize>(), rounds as usize, "one winner each");
    assert_eq!(won.into_iter().flatten().collect::<HashSet<_>>().len(), rounds as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_claims_at_once_one_is_won_and_the_other_sees_it() {
    let world = World::start().await;
    race(vec![world.store.clone(), world.other().await], 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_claims_at_once_one_is_won_and_the_others_see_it() {
    let world = World::start().await;
    let mut stores = vec![world.store.clone(); 4];
    stores.extend(vec![world.other().await; 4]);
    race(stores, 200).await;
}

/// Where the server would begin transactions in which a claim cannot work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_isolation_changes_nothing() {
    let server =
        PostgresServer::with(&["default_transaction_isolation=serializable", "default_transaction_deferrable=on"]);
    patient().migrate(&server.url()).await.unwrap();
    let own = patient().connect(&server.url()).await.unwrap();
    let pool = idem_runtime::store::postgres::driver::PgPool::connect(&server.url()).await.unwrap();
    let given = patient().with_pool(pool).await.unwrap();
    race(vec![own.clone(), own, given.clone(), given], 200).await;
    let log = server.log();
    assert!(!log.contains("could not serialize"), "claims were undone and taken again: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_meet_neither_lock_each_other_nor_claim_twice() {
    let world = World::start().await;
    let mut all = JoinSet::new();
    for by in 1..=6_u8 {
        let store = if by % 2 == 0 { world.store.clone() } else { world.other().await };
        all.spawn(async move {
            let mut won = Vec::new();
            for round in 0..20 {
                // Each in another order.
                let mut batch: Vec<_> = (0..50).map(|at| claim(round * 50 + at, by)).collect();
                batch.rotate_left(usize::from(by) * 7);
                if by % 2 == 0 {
                    batch.reverse();
                }
                for (claim, claimed) in batch.iter().zip(store.claim_many(&batch).await) {
                    match claimed.unwrap() {
                        Claimed::Won { .. } => won.push(claim.key),
                        Claimed::Busy { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            won
        });
    }
    let won: Vec<_> = all.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1_000);
    assert_eq!(won.into_iter().collect::<HashSet<_>>().len(), 1_000);
}

#[tokio::test]
async fn a_batch_tells_each_claim_what_became_of_it() {
    let world = World::start().await;
    let store = &world.store;
    assert!(store.claim_many(&[]).await.is_empty());
    win(store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    win(store, claim(2, 1)).await;
    let other = used_with(claim(1, 9), 2);
    // Key 4 comes twice: the second sees what the first did.
    let batch = [claim(4, 9), claim(2, 9), claim(1, 9), claim(4, 8), claim(3, 9)];
    let found: Vec<_> = store.claim_many(&batch).await.into_iter().map(Result::unwrap).collect();
    assert!(is_won(&found[0]) && is_won(&found[4]), "{found:?}");
    assert!(matches!(found[1], Claimed::Busy { .. }) && matches!(found[3], Claimed::Busy { .. }), "{found:?}");
    assert_eq!(found[2], Claimed::Completed { answer: Some(tests::claims::answer("answer")) });
    assert_eq!(store.claim_many(&[other]).await.remove(0).unwrap(), Claimed::Mismatch);

    // One that is part of somebody's open transaction holds up no other.
    let mut open = store.begin().await.unwrap();
    assert!(is_won(&store.claim_in(&mut open, claim(6, 1)).await.unwrap()));
    let hasty = world.postgres.builder().command_timeout(TIMEOUT).connect(&world.postgres.url()).await.unwrap();
    let found: Vec<_> = hasty.claim_many(&[claim(5, 9), claim(6, 9), claim(7, 9)]).await;
    assert!(found[0].as_ref().is_ok_and(is_won) && found[2].as_ref().is_ok_and(is_won), "{found:?}");
    assert!(matches!(found[1], Ok(Claimed::Busy { .. })), "{found:?}");
    store.rollback(open).await;
}

/// A row that is written no later than this after its clock was read, in microseconds, is not written again.
const LATE: u64 = 500;

/// Whoever waits for somebody else's transaction began before that one did, and must not get a smaller fence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waited_for_one_that_was_undone_has_the_larger_fence() {
    let world = World::start().await;
    let other = world.other().await;
    for at in 0..20 {
        let mut undone = world.store.begin().await.unwrap();
        let first = world.store.claim_in(&mut undone, claim(at, 1)).await.unwrap();
        let Claimed::Won { fence: first, .. } = first else { panic!("{first:?}") };
        // It waits for the one, and is there before the next.
        let waiting = tokio::spawn({
            let other = other.clone();
            async move { win(&other, claim(at, 2)).await }
        });
        world.until_waiting(1).await;
        let now = world.micros().await;
        world.store.rollback(undone).await;
        let (second, _) = waiting.await.unwrap();
        assert!(second > first && second.get() + LATE >= now, "{second} after {first}, at {now}");
        assert_eq!(other.release(Release::new(key(at), token(2))).await.unwrap(), Ownership::Held);
        let (third, attempt) = win(&other, claim(at, 3)).await;
        assert!(third > second && attempt == 1);
    }
}

/// A claim that waited is made younger, for which it may find no connection. It was won all the same.
#[tokio::test]
async fn a_claim_that_was_won_is_never_told_as_one_that_was_not_asked() {
    let world = World::start().await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(&world.postgres.url()).await.unwrap();
    let store = world.postgres.builder().command_timeout(TIMEOUT).with_pool(pool.clone()).await.unwrap();
    // Somebody else's transaction has the key, and is rolled back.
    let mut other = world.store.begin().await.unwrap();
    assert!(is_won(&world.store.claim_in(&mut other, claim(1, 2)).await.unwrap()));
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { store.claim(claim(1, 1)).await }
    });
    world.until_waiting(1).await;
    let (taken, release) = (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel::<()>());
    let others_use = tokio::spawn(async move {
        let connection = pool.acquire().await.unwrap();
        taken.0.send(()).unwrap();
        release.1.await.unwrap();
        drop(connection);
    });
    // On this one thread: the other use waits for the connection from now on.
    tokio::task::yield_now().await;
    world.store.rollback(other).await;
    taken.1.await.unwrap();
    let error = claiming.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    release.0.send(()).unwrap();
    others_use.await.unwrap();
    assert!(is_won(&store.claim(claim(1, 1)).await.unwrap()), "whoever asks again is told");
}
