//! Records past their time go, and no others.

use std::time::Duration;

use idem_runtime::{
    PostgresStore, Store,
    store::{Claimed, Complete, Outcome, Ownership, postgres::driver as sqlx},
};
use tests::{
    claims::{DAY, answer, claim, complete, key, token, win},
    servers::eventually_async,
};
use tokio::task::JoinSet;

use crate::support::*;

/// Rows that were past their time long ago, of every kind that can be.
async fn expired(world: &World, rows: u32) {
    let insert = format!(
        "INSERT INTO {{t}} SELECT sha256(n::text::bytea), 1, 1 + n % 3, sha256('x'), '\\x02020202020202020202020202020202', n, 1, \
         1, 2, CASE n % 3 WHEN 1 THEN 'answer'::bytea END, CASE n % 3 WHEN 1 THEN 6 END FROM generate_series(1, {rows}) AS n"
    );
    assert_eq!(world.run(&insert).await, u64::from(rows));
}

/// One record of every kind that stays.
async fn stays(world: &World) -> i64 {
    let store = &world.store;
    win(store, claim(1, 1)).await;
    win(store, claim(2, 1)).await;
    assert_eq!(store.complete(&complete(2, 1, "answer")).await.unwrap(), Ownership::Held);
    for (at, outcome) in [(3, Outcome::Unknown), (4, Outcome::Parked(answer("why")))] {
        win(store, claim(at, 1)).await;
        let end = Complete::new(key(at), token(1), outcome, Duration::from_millis(1));
        assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    }
    // Past its lease, not past its retention; and one that is kept until it is settled.
    win(store, leased(claim(5, 1), Duration::from_millis(1))).await;
    win(store, leased(claim(6, 1), Duration::from_millis(1)).retention(None)).await;
    6
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_replicas_expire_at_once_and_each_row_once() {
    let world = World::start().await;
    expired(&world, 3_000).await;
    let stay = stays(&world).await;
    let mut all = JoinSet::new();
    for _ in 0..4 {
        let store = world.other().await;
        all.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let deleted = store.expire(100).await.unwrap();
                assert!(deleted <= 100, "{deleted} at once");
                mine.push(deleted);
                if deleted == 0 {
                    return mine;
                }
            }
        });
    }
    let deleted: u64 = all.join_all().await.into_iter().flatten().sum();
    assert_eq!(deleted, 3_000);
    assert_eq!(world.number("SELECT count(*) FROM {t}").await, stay);
    assert_eq!(world.store.expire(100).await.unwrap(), 0);
}

/// A statement that holds a row holds up nobody.
#[tokio::test]
async fn rows_that_somebody_holds_are_passed_over() {
    let world = World::start().await;
    expired(&world, 30).await;
    let mut holder = world.pool.begin().await.unwrap();
    let hold = format!("SELECT FROM {}.idem_records WHERE fence <= 10 FOR UPDATE", world.postgres.schema());
    sqlx::query(sqlx::AssertSqlSafe(hold)).execute(&mut *holder).await.unwrap();
    assert_eq!(world.store.expire(100).await.unwrap(), 20);
    holder.rollback().await.unwrap();
    assert_eq!(world.store.expire(100).await.unwrap(), 10);
}

#[tokio::test]
async fn a_row_past_its_time_that_is_still_there_is_absent() {
    let world = World::start().await;
    win(&world.store, claim(1, 1)).await;
    let end = Complete::new(key(1), token(1), Outcome::Answer(answer("old")), DAY);
    assert_eq!(world.store.complete(&end).await.unwrap(), Ownership::Held);
    // Its fence is ahead of the clock, as after a step of the clock: the row knows better.
    let ahead = 4_000_000_000_000_000_i64;
    world.run(&format!("UPDATE {{t}} SET until = 1, forget = 2, fence = {ahead}")).await;
    let other = used_with(claim(1, 2), 9);
    let claimed = world.store.claim(other).await.unwrap();
    let Claimed::Won { fence, attempt: 1 } = claimed else { panic!("{claimed:?}") };
    assert_eq!(fence.get(), ahead.unsigned_abs() + 1);
    // And its old owner has nothing to say.
    assert_eq!(world.store.complete(&complete(1, 1, "late")).await.unwrap(), Ownership::Lost);
    assert_eq!(world.number("SELECT count(*) FROM {t} WHERE answer IS NULL AND answer_length IS NULL").await, 1);
}

/// What is claimed anew in the moment in which it is deleted stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_and_an_expiry_in_the_same_moment_lose_no_claim() {
    let world = World::start().await;
    let (claims, sweeps) = (world.other().await, world.other().await);
    for round in 0..20 {
        let from = round * 20;
        for at in from..from + 20 {
            win(&world.store, claim(at, 1)).await;
        }
        world.run("UPDATE {t} SET until = 1, forget = 2 WHERE token = '\\x01010101010101010101010101010101'").await;
        let sweeping = tokio::spawn({
            let sweeps = sweeps.clone();
            async move {
                for _ in 0..10 {
                    sweeps.expire(3).await.unwrap();
                }
            }
        });
        for at in from..from + 20 {
            win(&claims, claim(at, 2)).await;
        }
        sweeping.await.unwrap();
    }
    assert_eq!(world.number("SELECT count(*) FROM {t} WHERE token = '\\x02020202020202020202020202020202'").await, 400);
}

/// More than one round deletes, and so more than come in an interval may be.
#[tokio::test]
async fn what_one_round_leaves_goes_within_the_interval() {
    let world = World::start().await;
    expired(&world, 120_000).await;
    let interval = Duration::from_secs(8);
    let _store = world.postgres.builder().sweep_every(interval).connect(&world.postgres.url()).await.unwrap();
    let fewer_than = async |rows: i64, within: Duration| {
        eventually_async("what is past its time goes", within, async || {
            (world.number("SELECT count(*) FROM {t}").await < rows).then_some(())
        })
        .await;
    };
    fewer_than(120_000, 5 * interval).await;
    // Five more rounds, each at least three quarters of it behind the one before if that had left nothing.
    fewer_than(1, 3 * interval).await;
}

#[tokio::test]
async fn the_store_expires_by_itself_until_it_is_dropped() {
    let world = World::start().await;
    let marked = format!("{}?application_name=sweeper-{}", world.postgres.url(), world.postgres.schema());
    let store: PostgresStore =
        world.postgres.builder().sweep_every(Duration::from_millis(50)).connect(&marked).await.unwrap();
    let stay = stays(&world).await;
    expired(&world, 2_500).await;
    eventually_async("what is past its time goes", Duration::from_secs(20), async || {
        (world.number("SELECT count(*) FROM {t}").await == stay).then_some(())
    })
    .await;
    let connections =
        format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sweeper-{}'", world.postgres.schema());
    let clone = store.clone();
    drop(store);
    assert_eq!(world.number(&connections).await, 1);
    drop(clone);
    eventually_async("its connections are closed", Duration::from_secs(20), async || {
        (world.number(&connections).await == 0).then_some(())
    })
    .await;
    expired(&world, 1).await;
    assert_eq!(world.number("SELECT count(*) FROM {t}").await, stay + 1);
}
