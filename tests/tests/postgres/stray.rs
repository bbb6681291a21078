//! Transactions that other code left open on a pool that it shares with the store.

use std::task::Poll;

use futures_util::future::poll_fn;
use idem_runtime::{
    Store,
    store::{Claimed, Ownership, Transactions, postgres::driver as sqlx},
};
use sqlx::{Executor, PgPool, postgres::PgPoolOptions};
use tests::claims::{answer, claim, complete, win};

use crate::support::*;

async fn one_connection(world: &World) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    pool.connect(&world.postgres.url()).await.unwrap()
}

/// A `begin` of user code that is dropped halfway: the driver sends it, and does not know of it.
async fn drop_a_begin(pool: &PgPool, polls: usize) {
    let mut beginning = Box::pin(pool.begin());
    for _ in 0..polls {
        let begun = poll_fn(|context| Poll::Ready(beginning.as_mut().poll(context).is_ready())).await;
        if begun {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_claim_after_a_dropped_begin_stays() {
    let world = World::start().await;
    let pool = one_connection(&world).await;
    let store = world.postgres.builder().with_pool(pool.clone()).await.unwrap();
    for at in 0..50_u32 {
        drop_a_begin(&pool, 1 + at as usize % 3).await;
        win(&store, claim(at, 1)).await;
        assert!(matches!(world.store.claim(claim(at, 2)).await.unwrap(), Claimed::Busy { .. }), "claim {at} vanished");
        assert_eq!(store.complete(&complete(at, 1, "a")).await.unwrap(), Ownership::Held);
        let replay = Claimed::Completed { answer: Some(answer("a")) };
        assert_eq!(world.store.claim(claim(at, 2)).await.unwrap(), replay);
    }
}

#[tokio::test]
async fn a_transaction_after_a_dropped_begin_stays() {
    let world = World::start().await;
    let pool = one_connection(&world).await;
    let store = world.postgres.builder().with_pool(pool.clone()).await.unwrap();
    for at in 0..20 {
        drop_a_begin(&pool, 1 + at as usize % 3).await;
        first_execution(&store, at).await;
        let replay = Claimed::Completed { answer: Some(answer("a")) };
        assert_eq!(world.store.claim(claim(at, 2)).await.unwrap(), replay, "{at} vanished");
        // One that is dropped leaves the pool its connection.
        drop(store.begin_and_claim(claim(100 + at, 1)).await.unwrap());
    }
}

/// What other code wrote in a transaction that it never finished is undone, as it would be anyway, and never committed by
/// the store.
#[tokio::test]
async fn a_transaction_left_open_is_ended_and_not_committed() {
    let world = World::start().await;
    world.run("CREATE TABLE {t}_ledger (entry int)").await;
    let pool = one_connection(&world).await;
    let store = world.postgres.builder().with_pool(pool.clone()).await.unwrap();
    let ledger = format!("{}.idem_records_ledger", world.postgres.schema());
    for left in ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN; SELECT 1 / 0", "BEGIN; SAVEPOINT a"] {
        let mut connection = pool.acquire().await.unwrap();
        // One that failed is left open as well.
        let _ = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(left))).await;
        let write = format!("INSERT INTO {ledger} VALUES (1)");
        let _ = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(write))).await;
        drop(connection);
        let at = left.len() as u32;
        win(&store, claim(at, 1)).await;
        assert!(matches!(world.store.claim(claim(at, 2)).await.unwrap(), Claimed::Busy { .. }), "after `{left}`");
    }
    assert_eq!(world.number("SELECT count(*) FROM {t}_ledger").await, 0);
}
