//! The record, and what the handler writes, in one transaction.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use idem_runtime::{
    ExecuteError, Idempotency, Operation, Policy, Principal, Refusal, SqliteStore, Store, Tx,
    store::{Begun, Claimed, Ownership, StoreErrorKind, Transactions},
};
use sqlx::SqlitePool;
use tests::claims::*;

use crate::{Place, SOON, refused};

/// A store, and a pool of the service's own of five connections.
async fn store(place: &Place) -> (SqliteStore, SqlitePool) {
    let pool = place.pool(5);
    SqliteStore::migrate(&pool).await.unwrap();
    sqlx::query("CREATE TABLE ledger (key INTEGER)").execute(&pool).await.unwrap();
    (place.options().with_pool(pool.clone()).await.unwrap(), pool)
}

async fn ledger(pool: &SqlitePool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(pool).await.unwrap()
}

/// Claims in a transaction, and writes where it wins. Leaves the transaction open.
async fn run(store: &SqliteStore, at: u32, by: u8) -> (<SqliteStore as Transactions>::Transaction, Claimed) {
    let mut transaction = store.begin().await.unwrap();
    let claimed = store.claim_in(&mut transaction, claim(at, by)).await.unwrap();
    if let Claimed::Won { .. } = claimed {
        sqlx::query("INSERT INTO ledger VALUES (?1)").bind(at).execute(&mut *transaction).await.unwrap();
        let held = store.complete_in(&mut transaction, &complete(at, by, "done")).await.unwrap();
        assert_eq!(held, Ownership::Held);
    }
    (transaction, claimed)
}

#[tokio::test]
async fn record_and_effect_are_both_there_or_neither() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let (dropped, claimed) = run(&store, 1, 1).await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }));
    drop(dropped);
    let (transaction, claimed) = run(&store, 1, 2).await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}");
    store.rollback(transaction).await;
    assert_eq!(ledger(&pool).await, 0);
    let (transaction, claimed) = run(&store, 1, 3).await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}");
    store.commit(transaction).await.unwrap();
    assert_eq!(ledger(&pool).await, 1);
    assert_eq!(store.claim(claim(1, 4)).await.unwrap(), Claimed::Completed { answer: Some(answer("done")) });
    let (transaction, claimed) = run(&store, 1, 5).await;
    assert_eq!(claimed, Claimed::Completed { answer: Some(answer("done")) });
    store.rollback(transaction).await;
}

/// Begins with the claim, and writes.
async fn begin(store: &SqliteStore, at: u32, by: u8) -> <SqliteStore as Transactions>::Transaction {
    let begun = store.begin_and_claim(claim(at, by)).await.unwrap();
    let Begun::Won { mut transaction, attempt: 1, .. } = begun else { panic!("{begun:?}") };
    sqlx::query("INSERT INTO ledger VALUES (?1)").bind(at).execute(&mut *transaction).await.unwrap();
    transaction
}

/// The commit is sent together with the completion. It must not be carried out without it.
#[tokio::test]
async fn a_completion_that_does_not_hold_commits_nothing() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    sqlx::raw_sql(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    )
    .execute(&pool)
    .await
    .unwrap();
    let other = place.open().await;
    for at in 1..4 {
        let transaction = begin(&store, 1, 1).await;
        let lost = store.complete_and_commit(transaction, &complete(1, 2, "by another")).await.unwrap();
        assert_eq!((lost, ledger(&pool).await), (Ownership::Lost, 0));

        // What the commit itself refuses.
        let mut transaction = begin(&store, 1, 1).await;
        sqlx::query("INSERT INTO child VALUES (7)").execute(&mut *transaction).await.unwrap();
        refused(store.complete_and_commit(transaction, &complete(1, 1, "done")).await, StoreErrorKind::Misconfigured);
        assert_eq!(ledger(&pool).await, 0);

        // The handler, or SQLite itself, has ended the transaction.
        let mut transaction = begin(&store, 1, 1).await;
        sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        let lost = store.complete_and_commit(transaction, &complete(1, 1, "done")).await.unwrap();
        assert_eq!((lost, ledger(&pool).await), (Ownership::Lost, 0));
        // Nothing is left open.
        win(&other, claim(100 + at, 1)).await;
    }
    let transaction = begin(&store, 1, 1).await;
    assert_eq!(store.complete_and_commit(transaction, &complete(1, 1, "done")).await.unwrap(), Ownership::Held);
    assert_eq!(ledger(&pool).await, 1);
    win(&other, claim(2, 1)).await;
    // Completed before its end, by the same owner: a look tells.
    let mut transaction = begin(&store, 3, 1).await;
    assert_eq!(store.complete_in(&mut transaction, &complete(3, 1, "first")).await.unwrap(), Ownership::Held);
    assert_eq!(store.complete_and_commit(transaction, &complete(3, 1, "second")).await.unwrap(), Ownership::Held);
    for (at, text) in [(1, "done"), (3, "first")] {
        let claimed = other.claim(claim(at, 2)).await.unwrap();
        assert_eq!(claimed, Claimed::Completed { answer: Some(answer(text)) });
    }
    assert_eq!(ledger(&pool).await, 2);
}

/// An unknown commit is settled by claiming again with the same token.
#[tokio::test]
async fn fences_grow_over_transactions_and_steps() {
    let place = Place::new();
    let (store, _) = store(&place).await;
    let mut last = win(&store, claim(0, 1)).await.0;
    for at in 1..4 {
        let mut transaction = store.begin().await.unwrap();
        let Claimed::Won { fence, .. } = store.claim_in(&mut transaction, claim(at, 1)).await.unwrap() else {
            panic!()
        };
        store.commit(transaction).await.unwrap();
        assert!(fence > last);
        assert_eq!(win(&store, claim(at, 1)).await, (fence, 1), "asked again by its token");
        last = win(&store, claim(at + 100, 1)).await.0;
        assert!(last > fence);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_duplicates_on_a_pool_of_five_end_with_one_effect() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let duplicates = (0..50).map(|by| {
        let store = store.clone();
        tokio::spawn(async move {
            let (transaction, claimed) = run(&store, 1, by).await;
            // The handler takes its time, and holds its connection.
            if let Claimed::Won { .. } = claimed {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            store.commit(transaction).await.unwrap();
            claimed
        })
    });
    let (claimed, unrelated) = tokio::join!(join_all(duplicates), async {
        let began = Instant::now();
        ledger(&pool).await;
        began.elapsed()
    });
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    let won = claimed.iter().filter(|claimed| matches!(claimed, Claimed::Won { .. })).count();
    let replay = Claimed::Completed { answer: Some(answer("done")) };
    let replayed = claimed.iter().filter(|claimed| **claimed == replay).count();
    assert_eq!((won, replayed, ledger(&pool).await), (1, 49, 1));
    assert!(unrelated < Duration::from_secs(5), "{unrelated:?}");
}

#[tokio::test]
async fn who_waits_too_long_for_the_lock_is_told_busy_and_readers_do_not_wait() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let (done, _) = run(&store, 7, 1).await;
    store.commit(done).await.unwrap();
    let here = place.options().lock_timeout(SOON).with_pool(pool.clone()).await.unwrap();
    let there = place.open_impatient().await;
    // In this process by the queue for the write connection, in others by the lock of the file.
    let (mut holder, claimed) = run(&here, 1, 1).await;
    assert!(matches!(claimed, Claimed::Won { .. }));
    for store in [&here, &there] {
        for at in [1, 2] {
            let mut late = store.begin().await.unwrap();
            let claimed = store.claim_in(&mut late, claim(at, 2)).await.unwrap();
            assert!(matches!(claimed, Claimed::Busy { .. }), "{claimed:?}");
            store.rollback(late).await;
        }
        let begun = store.begin_and_claim(claim(2, 2)).await.unwrap();
        assert!(matches!(begun, Begun::NotWon(Claimed::Busy { .. })), "{begun:?}");
        let begun = store.begin_and_claim(claim(7, 2)).await.unwrap();
        assert!(matches!(begun, Begun::NotWon(Claimed::Completed { answer: Some(_) })), "{begun:?}");
        refused(store.claim(claim(2, 2)).await, StoreErrorKind::Unreachable);
        let replay = Claimed::Completed { answer: Some(answer("done")) };
        assert_eq!(store.claim(claim(7, 2)).await.unwrap(), replay, "a replay needs no lock");
        assert_eq!(ledger(store.pool()).await, 1);
    }
    // The holder noticed nothing.
    sqlx::query("INSERT INTO ledger VALUES (9)").execute(&mut *holder).await.unwrap();
    here.commit(holder).await.unwrap();
    assert_eq!(ledger(&pool).await, 3);
    let (next, claimed) = run(&store, 1, 2).await;
    assert_eq!(claimed, Claimed::Completed { answer: Some(answer("done")) });
    store.rollback(next).await;
}

/// A transaction that reads before it writes can be too late to write.
#[tokio::test]
async fn a_transaction_of_the_service_that_read_too_early_is_a_conflict() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let mut early = pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM ledger").fetch_one(&mut *early).await.unwrap();
    win(&store, claim(1, 1)).await;
    refused(store.claim_in(&mut early, claim(2, 2)).await, StoreErrorKind::Conflict);
    early.rollback().await.unwrap();

    // Run again, and by one that did not read: both may write.
    let mut again = pool.begin().await.unwrap();
    assert!(matches!(store.claim_in(&mut again, claim(2, 2)).await.unwrap(), Claimed::Won { attempt: 1, .. }));
    assert_eq!(store.complete_in(&mut again, &complete(2, 2, "done")).await.unwrap(), Ownership::Held);
    again.commit().await.unwrap();
    assert_eq!(store.claim(claim(2, 3)).await.unwrap(), Claimed::Completed { answer: Some(answer("done")) });
}

/// A connection without a transaction: the step is one by itself.
#[tokio::test]
async fn a_connection_without_a_transaction_keeps_nothing_locked() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let other = place.open().await;
    let mut connection = pool.acquire().await.unwrap();
    assert!(matches!(store.claim_in(&mut connection, claim(1, 1)).await.unwrap(), Claimed::Won { .. }));
    win(&other, claim(2, 1)).await;
    let held = other.begin().await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await.unwrap();
    assert!(matches!(store.claim_in(&mut connection, claim(3, 1)).await.unwrap(), Claimed::Busy { .. }));
    other.rollback(held).await;
    win(&other, claim(3, 2)).await;
    assert!(matches!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Busy { .. }));
}

/// SQLite has undone the transaction by itself, and the driver does not know.
#[tokio::test]
async fn a_transaction_that_found_the_disk_full_leaves_the_store_usable() {
    let place = Place::new();
    let store = place.options().max_bytes(1 << 20).open(place.file()).await.unwrap();
    sqlx::query("CREATE TABLE big (bytes BLOB)").execute(store.pool()).await.unwrap();
    for by in 1..4 {
        let mut transaction = store.begin().await.unwrap();
        assert!(matches!(
            store.claim_in(&mut transaction, claim(1, by)).await.unwrap(),
            Claimed::Won { attempt: 1, .. }
        ));
        let big = sqlx::query("INSERT INTO big VALUES (zeroblob(4000000))").execute(&mut *transaction).await;
        assert!(big.is_err());
        match by {
            1 => store.rollback(transaction).await,
            2 => drop(transaction),
            _ => drop(store.commit(transaction).await),
        }
    }
    win(&store, claim(2, 1)).await;
    let mut transaction = store.begin().await.unwrap();
    assert!(matches!(store.claim_in(&mut transaction, claim(3, 1)).await.unwrap(), Claimed::Won { .. }));
    store.commit(transaction).await.unwrap();
    assert!(matches!(store.claim(claim(3, 2)).await.unwrap(), Claimed::Busy { .. }));
}

/// Nor what is written by a handler that takes no notice of it, a statement at a time and without its record.
#[tokio::test]
async fn what_a_handler_writes_behind_a_full_disk_is_not_kept() {
    let place = Place::new();
    let store = place.options().max_bytes(1 << 20).open(place.file()).await.unwrap();
    for table in ["big (bytes BLOB)", "ledger (key INTEGER)"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE TABLE {table}"))).execute(store.pool()).await.unwrap();
    }
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let operation = || Operation::new(Policy::new("calls"), Principal::SHARED, "k");
    for _ in 0..2 {
        let careless = |mut tx: Tx<SqliteStore>, _| async move {
            let big = sqlx::query("INSERT INTO big VALUES (zeroblob(4000000))").execute(&mut tx).await;
            let entry = sqlx::query("INSERT INTO ledger VALUES (1)").execute(&mut tx).await;
            let bare = sqlx::query("INSERT INTO ledger VALUES (2)").execute(tx.connection()).await;
            Ok::<_, ()>((big.is_ok(), entry.is_ok(), bare.is_ok()))
        };
        let done = runtime.transact(&store, operation(), careless).await;
        assert!(matches!(done, Err(ExecuteError::Refused(Refusal::Unavailable { .. }))), "{done:?}");
        assert_eq!(ledger(store.pool()).await, 0);
    }
    let careful = |mut tx: Tx<SqliteStore>, _| async move {
        sqlx::query("INSERT INTO ledger VALUES (1)").execute(&mut tx).await.map(drop)
    };
    assert!(runtime.transact(&store, operation(), careful).await.is_ok());
    assert_eq!(ledger(store.pool()).await, 1);
}

/// Not even while another transaction, on another connection, is committed beside it.
#[tokio::test]
async fn a_commit_beside_a_handler_does_not_let_it_write_behind_the_end_of_its_transaction() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    let impatient = place.options().lock_timeout(SOON).with_pool(pool.clone()).await.unwrap();
    drop(store);
    let mut handler = begin(&impatient, 1, 1).await;
    // It did not get the lock.
    let late = impatient.begin().await.unwrap();
    impatient.commit(late).await.unwrap();
    sqlx::query("ROLLBACK").execute(&mut *handler).await.unwrap();
    assert!(sqlx::query("INSERT INTO ledger VALUES (2)").execute(&mut *handler).await.is_err());
    let lost = impatient.complete_and_commit(handler, &complete(1, 1, "done")).await.unwrap();
    assert_eq!((lost, ledger(&pool).await), (Ownership::Lost, 0));
}

/// It would be another file's from then on.
#[tokio::test]
async fn a_file_that_is_gone_is_not_made_anew() {
    let place = Place::new();
    let store = place.open().await;
    std::fs::remove_file(place.file()).unwrap();
    let _ = store.claim(claim(1, 1)).await;
    assert!(sqlx::query("SELECT 1").execute(store.pool()).await.is_err());
    assert!(!place.file().exists());
}

/// The same while the other one still writes: whoever would wait for it waits.
#[tokio::test]
async fn a_transaction_that_read_waits_for_the_one_that_writes() {
    let place = Place::new();
    let (store, pool) = store(&place).await;
    for commits in [true, false] {
        let mut early = pool.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM ledger").fetch_one(&mut *early).await.unwrap();
        let (writing, _) = run(&store, 1, 1).await;
        let (claimed, ()) = tokio::join!(store.claim_in(&mut early, claim(2, 2)), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if commits {
                store.commit(writing).await.unwrap();
            } else {
                store.rollback(writing).await;
            }
        });
        if commits {
            refused(claimed, StoreErrorKind::Conflict);
        } else {
            assert!(matches!(claimed, Ok(Claimed::Won { attempt: 1, .. })), "{claimed:?}");
        }
        early.rollback().await.unwrap();
    }
}
