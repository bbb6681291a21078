//! Claim, effect and answer in one transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use idem_runtime::{
    PostgresStore, Store,
    store::{
        Begun, Claimed, Ownership, Release, StoreErrorKind, Transactions,
        postgres::{Isolation, PostgresTransaction, driver as sqlx},
    },
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tests::claims::{answer, claim, complete, key, token, win};
use tokio::task::JoinSet;

use crate::support::*;

impl World {
    async fn with_ledger() -> Self {
        let world = Self::start().await;
        world.run("CREATE TABLE {t}_ledger (entry int PRIMARY KEY)").await;
        world
    }

    async fn enter(&self, transaction: &mut PostgresTransaction, entry: u32) -> Result<(), sqlx::Error> {
        enter(self.postgres.schema(), transaction, entry).await
    }

    async fn entries(&self) -> i64 {
        self.number("SELECT count(*) FROM {t}_ledger").await
    }
}

async fn enter(schema: &str, transaction: &mut PostgresTransaction, entry: u32) -> Result<(), sqlx::Error> {
    let text = format!("INSERT INTO {schema}.idem_records_ledger VALUES ({entry})");
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.map(drop)
}

#[tokio::test]
async fn record_and_effect_are_there_together_or_not_at_all() {
    let world = World::with_ledger().await;
    let store = &world.store;

    let mut undone = store.begin().await.unwrap();
    let first = store.claim_in(&mut undone, claim(1, 1)).await.unwrap();
    let Claimed::Won { fence: first, attempt: 1 } = first else { panic!("{first:?}") };
    world.enter(&mut undone, 1).await.unwrap();
    assert_eq!(store.complete_in(&mut undone, &complete(1, 1, "a")).await.unwrap(), Ownership::Held);
    store.rollback(undone).await;
    assert_eq!((world.entries().await, world.number("SELECT count(*) FROM {t}").await), (0, 0));

    // One that is dropped is as good as rolled back.
    let mut dropped = store.begin().await.unwrap();
    assert!(is_won(&store.claim_in(&mut dropped, claim(1, 2)).await.unwrap()));
    world.enter(&mut dropped, 1).await.unwrap();
    drop(dropped);

    let mut kept = store.begin().await.unwrap();
    let second = store.claim_in(&mut kept, claim(1, 3)).await.unwrap();
    let Claimed::Won { fence: second, attempt: 1 } = second else { panic!("{second:?}") };
    assert!(second > first);
    world.enter(&mut kept, 1).await.unwrap();
    assert_eq!(store.complete_in(&mut kept, &complete(1, 3, "a")).await.unwrap(), Ownership::Held);
    assert_eq!(world.entries().await, 0, "nobody sees it before it is committed");
    store.commit(kept).await.unwrap();
    assert_eq!(world.entries().await, 1);
    assert_eq!(world.other().await.claim(claim(1, 4)).await.unwrap(), Claimed::Completed { answer: Some(answer("a")) });
}

#[tokio::test]
async fn a_duplicate_waits_and_then_sees_the_answer() {
    let world = World::with_ledger().await;
    let mut first = world.store.begin().await.unwrap();
    assert!(is_won(&world.store.claim_in(&mut first, claim(1, 1)).await.unwrap()));
    let patient = world.postgres.builder().lock_timeout(Duration::from_secs(20));
    let store = patient.connect(&world.postgres.url()).await.unwrap();
    let second = tokio::spawn({
        async move {
            let mut transaction = store.begin().await.unwrap();
            let claimed = store.claim_in(&mut transaction, claim(1, 2)).await.unwrap();
            store.rollback(transaction).await;
            claimed
        }
    });
    world.until_waiting(1).await;
    assert_eq!(world.store.complete_in(&mut first, &complete(1, 1, "a")).await.unwrap(), Ownership::Held);
    world.store.commit(first).await.unwrap();
    assert_eq!(second.await.unwrap(), Claimed::Completed { answer: Some(answer("a")) });
}

#[tokio::test]
async fn who_waits_too_long_is_told_that_it_is_busy_and_may_go_on() {
    let world = World::with_ledger().await;
    let lock_timeout = Duration::from_millis(100);
    let store = world.postgres.builder().lock_timeout(lock_timeout).connect(&world.postgres.url()).await.unwrap();
    let mut first = store.begin().await.unwrap();
    assert!(is_won(&store.claim_in(&mut first, claim(1, 1)).await.unwrap()));

    let mut second = store.begin().await.unwrap();
    second.execute(sqlx::raw_sql("SET LOCAL lock_timeout = '7s'")).await.unwrap();
    world.enter(&mut second, 1).await.unwrap();
    let begun = Instant::now();
    assert!(matches!(store.claim_in(&mut second, claim(1, 2)).await.unwrap(), Claimed::Busy { .. }));
    assert!(begun.elapsed() >= lock_timeout, "{:?}", begun.elapsed());
    // What it did before is still there, and another key is won.
    assert_eq!(shown_timeout(&mut second).await, "7s");
    assert!(is_won(&store.claim_in(&mut second, claim(2, 2)).await.unwrap()));
    assert_eq!(shown_timeout(&mut second).await, "7s", "the caller's own time-out");
    assert_eq!(store.complete_in(&mut second, &complete(2, 2, "b")).await.unwrap(), Ownership::Held);
    store.commit(second).await.unwrap();
    store.rollback(first).await;
    assert_eq!(world.entries().await, 1);

    // Outside of a transaction it is told sooner.
    let mut third = store.begin().await.unwrap();
    assert!(is_won(&store.claim_in(&mut third, claim(3, 1)).await.unwrap()));
    let hasty = world.postgres.builder().command_timeout(TIMEOUT).connect(&world.postgres.url()).await.unwrap();
    let begun = Instant::now();
    assert!(matches!(hasty.claim(claim(3, 2)).await.unwrap(), Claimed::Busy { .. }));
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    store.rollback(third).await;
}

impl World {
    /// A gate that every claim of a new key passes before its row is written. The connection is the one that shuts and
    /// opens it.
    async fn with_gate() -> (Self, PgConnection) {
        let world = Self::start().await;
        let schema = world.postgres.schema().to_owned();
        world
            .run(&format!(
                "CREATE FUNCTION {schema}.pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     PERFORM pg_advisory_lock({GATE}); PERFORM pg_advisory_unlock({GATE}); RETURN NEW; END $$"
            ))
            .await;
        let trigger =
            format!("CREATE TRIGGER gate BEFORE INSERT ON {{t}} FOR EACH ROW EXECUTE FUNCTION {schema}.pass()");
        world.run(&trigger).await;
        let keeper = PgConnection::connect(&world.postgres.url()).await.unwrap();
        (world, keeper)
    }
}

/// No other test locks this.
const GATE: u32 = 7_100_225;

/// The server ends each wait for a lock, not their sum.
#[tokio::test]
async fn who_waits_for_one_after_the_other_is_told_that_it_is_busy() {
    const LOCK: Duration = Duration::from_secs(2);
    let (world, mut keeper) = World::with_gate().await;
    let hasty = || world.postgres.builder().lock_timeout(LOCK).command_timeout(Duration::from_secs(1));
    let store = hasty().max_transactions(1).connect(&world.postgres.url()).await.unwrap();
    let joined = hasty().connect(&world.postgres.url()).await.unwrap();
    // Opened while nobody waits for them.
    first_execution(&store, 9).await;
    let mut own = world.pool.begin().await.unwrap();
    let mut held = world.store.begin().await.unwrap();
    assert!(is_won(&world.store.claim_in(&mut held, claim(1, 1)).await.unwrap()));

    let shut = format!("SELECT pg_advisory_lock({GATE})");
    keeper.execute(sqlx::raw_sql(AssertSqlSafe(shut))).await.unwrap();
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.begin_and_claim(claim(1, 2)).await }
    });
    let waits_too = tokio::spawn(async move {
        let claimed = joined.claim_in(&mut own, claim(1, 3)).await;
        // What `rollback` would say is how the claim ended.
        drop(own);
        claimed
    });
    world.until_waiting(2).await;
    // Somebody with another key, for whom there is no place yet.
    let mut queues = Box::pin(store.begin());
    assert!(queues.as_mut().now_or_never().is_none());
    // The first wait is over in time, and the second one begins.
    tokio::time::sleep(LOCK * 3 / 4).await;
    let open = format!("SELECT pg_advisory_unlock({GATE})");
    keeper.execute(sqlx::raw_sql(AssertSqlSafe(open))).await.unwrap();

    let begun = waits.await.unwrap();
    assert!(matches!(begun, Ok(Begun::NotWon(Claimed::Busy { .. }))), "{begun:?}");
    // Here the transaction could not go on: that claim may still be won in it.
    match waits_too.await.unwrap() {
        Ok(claimed) => assert!(matches!(claimed, Claimed::Busy { .. }), "{claimed:?}"),
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}"),
    }
    let queued = queues.await.expect("the server is there, and so is a place by now");
    store.rollback(queued).await;
    world.store.rollback(held).await;
    let claimed = world.store.claim(claim(1, 4)).await.unwrap();
    assert!(is_won(&claimed), "nobody has won it since: {claimed:?}");
}

/// That of the session may be shorter than the claim's own time.
#[tokio::test]
async fn who_waits_longer_than_a_statement_may_take_is_told_that_it_is_busy() {
    let world = World::with_ledger().await;
    let options: PgConnectOptions = world.postgres.url().parse().unwrap();
    let hasty = options.options([("statement_timeout", "200ms")]);
    let store = world.postgres.builder().connect_with(hasty).await.unwrap();
    let held = won(&world.store, 1, 1).await;
    let begun = store.begin_and_claim(claim(1, 2)).await;
    assert!(matches!(begun, Ok(Begun::NotWon(Claimed::Busy { .. }))), "{begun:?}");
    let mut own = store.begin().await.unwrap();
    world.enter(&mut own, 1).await.unwrap();
    let claimed = store.claim_in(&mut own, claim(1, 3)).await;
    assert!(matches!(claimed, Ok(Claimed::Busy { .. })), "{claimed:?}");
    store.commit(own).await.unwrap();
    assert_eq!(world.entries().await, 1, "what it did before");
    world.store.rollback(held).await;
}

/// What the claim waits for is no matter of the handler's statements.
#[tokio::test]
async fn the_handler_has_the_lock_timeout_of_its_session() {
    let world = World::with_ledger().await;
    let options: PgConnectOptions = world.postgres.url().parse().unwrap();
    let builder = world.postgres.builder().max_transactions(2).lock_timeout(Duration::from_millis(100));
    let store = builder.connect_with(options.options([("lock_timeout", "7s")])).await.unwrap();
    // A key without a record, then one that was released: claimed in other ways.
    for by in 1..=2 {
        let mut transaction = won(&store, 1, by).await;
        assert_eq!(shown_timeout(&mut transaction).await, "7s");
        // While it is open, a claim waits, and no longer than the store's own.
        let begun = Instant::now();
        let Ok(Begun::NotWon(Claimed::Busy { .. })) = store.begin_and_claim(claim(1, 9)).await else { panic!() };
        assert!((100..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert_eq!(shown_timeout(&mut transaction).await, "7s");
        store.commit(transaction).await.unwrap();
        assert_eq!(store.release(Release::new(key(1), token(by))).await.unwrap(), Ownership::Held);
    }
    // What a handler sets for its session is there for the next one.
    let mut transaction = won(&store, 2, 1).await;
    transaction.execute("SET lock_timeout = '9s'").await.unwrap();
    assert_eq!(store.complete_and_commit(transaction, &complete(2, 1, "a")).await.unwrap(), Ownership::Held);
    let mut next = won(&store, 3, 1).await;
    assert_eq!(shown_timeout(&mut next).await, "9s");
}

/// The store's table is where it was when the store connected.
#[tokio::test]
async fn a_handler_may_set_another_search_path() {
    let world = World::start().await;
    let by_path = world.postgres.url_of_its_table();
    let pool = sqlx::PgPool::connect(&by_path).await.unwrap();
    let patient = || patient().max_transactions(1);
    let stores = [patient().connect(&by_path).await.unwrap(), patient().with_pool(pool).await.unwrap()];
    for (at, store) in (0..).zip(&stores) {
        let mut transaction = won(store, at, 1).await;
        transaction.execute("SET LOCAL search_path = pg_catalog").await.unwrap();
        assert_eq!(store.complete_and_commit(transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
        assert_eq!(world.store.claim(claim(at, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("a")) });
        // Nor has a transaction of one's own to have it in its path.
        let mut own = world.pool.begin().await.unwrap();
        assert!(is_won(&store.claim_in(&mut own, claim(10 + at, 1)).await.unwrap()));
        own.rollback().await.unwrap();
    }
}

/// However its claim ends.
#[tokio::test]
async fn a_transaction_of_ones_own_keeps_its_lock_timeout() {
    let world = World::start().await;
    win(&world.store, claim(2, 1)).await;
    assert_eq!(world.store.complete(&complete(2, 1, "a")).await.unwrap(), Ownership::Held);
    win(&world.store, claim(3, 1)).await;
    win(&world.store, claim(4, 1)).await;
    assert_eq!(world.store.release(Release::new(key(4), token(1))).await.unwrap(), Ownership::Held);
    let held = won(&world.store, 5, 1).await;
    let hasty = world.postgres.builder().lock_timeout(Duration::from_millis(50));
    let store = hasty.connect(&world.postgres.url()).await.unwrap();

    let mut own = world.pool.begin().await.unwrap();
    let find = format!("SET LOCAL lock_timeout = '7s'; SET LOCAL search_path = {}", world.postgres.schema());
    own.execute(sqlx::raw_sql(AssertSqlSafe(find))).await.unwrap();
    for (at, what) in [(1, "won"), (2, "completed"), (3, "busy"), (4, "released"), (5, "locked")] {
        let claimed = store.claim_in(&mut own, claim(at, 2)).await.unwrap();
        let as_told = match what {
            "won" | "released" => is_won(&claimed),
            "completed" => claimed == Claimed::Completed { answer: Some(answer("a")) },
            _ => matches!(claimed, Claimed::Busy { .. }),
        };
        assert!(as_told, "{what}: {claimed:?}");
        assert_eq!(shown_timeout(&mut own).await, "7s", "{what}");
    }
    own.rollback().await.unwrap();
    world.store.rollback(held).await;
}

/// The driver counts them, and is not told of every one that the store begins.
#[tokio::test]
async fn a_transaction_inside_is_a_savepoint() {
    let world = World::with_ledger().await;
    let store = world.postgres.builder().max_transactions(1).connect(&world.postgres.url()).await.unwrap();
    for (at, kept) in (0..).zip([0, 2, 3, 5]) {
        let mut transaction = won(&store, at, 1).await;
        world.enter(&mut transaction, at * 10).await.unwrap();
        let mut inside = transaction.begin().await.unwrap();
        let text = format!("INSERT INTO {}.idem_records_ledger VALUES ({})", world.postgres.schema(), at * 10 + 1);
        inside.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.unwrap();
        match at % 2 {
            0 => inside.commit().await.unwrap(),
            _ => drop(inside),
        }
        assert_eq!(world.entries().await, kept, "nothing of it is committed yet");
        assert_eq!(store.complete_and_commit(transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
    }
    assert_eq!(world.entries().await, 6);
}

/// A statement of the handler failed, and the handler says that all is well.
#[tokio::test]
async fn what_a_failed_statement_undid_is_not_completed() {
    let world = World::with_ledger().await;
    let mut transaction = won(&world.store, 1, 1).await;
    world.enter(&mut transaction, 1).await.unwrap();
    assert!(world.enter(&mut transaction, 1).await.is_err(), "it is there already");
    let error = world.store.complete_and_commit(transaction, &complete(1, 1, "a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "there is no doubt that it was not committed: {error}");
    assert_eq!((world.entries().await, world.number("SELECT count(*) FROM {t}").await), (0, 0));

    // Nor is what the handler took from the store.
    let mut transaction = won(&world.store, 1, 1).await;
    let text = format!("DELETE FROM {}.idem_records", world.postgres.schema());
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.unwrap();
    world.enter(&mut transaction, 1).await.unwrap();
    assert_eq!(world.store.complete_and_commit(transaction, &complete(1, 1, "a")).await.unwrap(), Ownership::Lost);
    assert_eq!(world.entries().await, 0);
}

async fn won(store: &PostgresStore, at: u32, by: u8) -> PostgresTransaction {
    match store.begin_and_claim(claim(at, by)).await.unwrap() {
        Begun::Won { transaction, .. } => transaction,
        Begun::NotWon(claimed) => panic!("{claimed:?}"),
    }
}

async fn shown_timeout(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("SHOW lock_timeout").fetch_one(connection).await.unwrap()
}

/// A transaction of the caller's own connection, not of the store's.
#[tokio::test]
async fn a_claim_joins_a_transaction_of_ones_own() {
    let world = World::with_ledger().await;
    let mut own = world.pool.begin().await.unwrap();
    let find = format!("SET LOCAL search_path = {}", world.postgres.schema());
    own.execute(sqlx::raw_sql(AssertSqlSafe(find))).await.unwrap();
    own.execute("INSERT INTO idem_records_ledger VALUES (1)").await.unwrap();
    assert!(is_won(&world.store.claim_in(&mut own, claim(1, 1)).await.unwrap()));
    assert_eq!(world.store.complete_in(&mut own, &complete(1, 1, "a")).await.unwrap(), Ownership::Held);
    own.commit().await.unwrap();
    assert_eq!(world.store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("a")) });
}

/// Every duplicate waits for the winner's row, on a connection or for one.
async fn duplicates(duplicates: u8) {
    let world = World::with_ledger().await;
    let store = world.postgres.builder().max_transactions(5).lock_timeout(Duration::from_secs(20));
    let store = store.connect(&world.postgres.url()).await.unwrap();
    let ran = Arc::new(AtomicU32::new(0));
    let mut all = JoinSet::new();
    for by in 1..=duplicates {
        let (store, ran, schema) = (store.clone(), ran.clone(), world.postgres.schema().to_owned());
        all.spawn(async move {
            let mut transaction = store.begin().await.unwrap();
            match store.claim_in(&mut transaction, claim(1, by)).await.unwrap() {
                Claimed::Won { .. } => {
                    ran.fetch_add(1, Ordering::SeqCst);
                    enter(&schema, &mut transaction, 1).await.unwrap();
                    // The work; meanwhile the pool is full of those that wait.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let completed = store.complete_in(&mut transaction, &complete(1, by, "a")).await.unwrap();
                    assert_eq!(completed, Ownership::Held);
                    store.commit(transaction).await.unwrap();
                }
                claimed => {
                    assert_eq!(claimed, Claimed::Completed { answer: Some(answer("a")) });
                    store.rollback(transaction).await;
                }
            }
        });
    }
    // Meanwhile, whatever is no transaction is answered at once.
    let begun = Instant::now();
    win(&store, claim(2, 1)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
    assert_eq!((ran.load(Ordering::SeqCst), world.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_duplicates_finish_on_five_connections() {
    duplicates(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_duplicates_finish_on_five_connections() {
    duplicates(50).await;
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_a_conflict() {
    let world = World::with_ledger().await;
    world.run("INSERT INTO {t}_ledger VALUES (1), (2)").await;
    let schema = world.postgres.schema();
    let store =
        world.postgres.builder().isolation(Isolation::Serializable).connect(&world.postgres.url()).await.unwrap();
    // Each reads what the other writes.
    let (mut one, mut two) = (store.begin().await.unwrap(), store.begin().await.unwrap());
    for (transaction, by, entry) in [(&mut one, 1_u8, 10), (&mut two, 2, 20)] {
        assert!(is_won(&store.claim_in(transaction, claim(by.into(), by)).await.unwrap()));
        let text = format!("SELECT sum(entry) FROM {schema}.idem_records_ledger");
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.unwrap();
        world.enter(transaction, entry).await.unwrap();
    }
    let mut ends = Vec::new();
    for (mut transaction, by) in [(one, 1_u8), (two, 2)] {
        let completed = store.complete_in(&mut transaction, &complete(by.into(), by, "a")).await;
        ends.push(match completed {
            Ok(_) => store.commit(transaction).await,
            Err(error) => Err(error),
        });
    }
    assert!(ends[0].is_ok(), "{ends:?}");
    assert_eq!(ends[1].as_ref().unwrap_err().kind(), StoreErrorKind::Conflict, "{ends:?}");
    assert_eq!(world.entries().await, 3);

    // What is recorded after the transaction began cannot be seen in it, nor be claimed past.
    let store =
        world.postgres.builder().isolation(Isolation::RepeatableRead).connect(&world.postgres.url()).await.unwrap();
    let mut late = store.begin().await.unwrap();
    late.execute("SELECT 1").await.unwrap();
    win(&store, claim(5, 1)).await;
    let error = store.claim_in(&mut late, claim(5, 2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    store.rollback(late).await;
}

/// `COMMIT` after a statement that failed rolls back, and the server does not call that an error.
#[tokio::test]
async fn what_was_rolled_back_is_not_told_as_committed() {
    let world = World::with_ledger().await;
    let mut transaction = world.store.begin().await.unwrap();
    world.enter(&mut transaction, 1).await.unwrap();
    assert!(world.enter(&mut transaction, 1).await.is_err(), "it is there already");
    let error = world.store.complete_in(&mut transaction, &complete(1, 1, "a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(world.store.commit(transaction).await.is_err());
    assert_eq!(world.entries().await, 0);
}

#[tokio::test]
async fn claims_in_transactions_keep_the_order_of_every_claim() {
    let world = World::start().await;
    let store = &world.store;
    win(store, leased(claim(1, 1), Duration::from_millis(1))).await;
    let abandoned = async |by| {
        let mut transaction = store.begin().await.unwrap();
        let claimed = store.claim_in(&mut transaction, claim(1, by)).await.unwrap();
        (transaction, claimed)
    };
    let (transaction, claimed) = abandoned(2).await;
    assert!(matches!(claimed, Claimed::Won { attempt: 2, .. }), "{claimed:?}");
    store.rollback(transaction).await;
    let (transaction, claimed) = abandoned(3).await;
    assert!(matches!(claimed, Claimed::Won { attempt: 2, .. }), "what was rolled back counts for nothing: {claimed:?}");
    store.commit(transaction).await.unwrap();
    // Committed in flight, it is like any other claim.
    assert!(matches!(store.claim(claim(1, 9)).await.unwrap(), Claimed::Busy { .. }));
}

/// The store's own transactions, by user code that drops them wherever it likes.
#[tokio::test]
async fn a_begin_that_is_dropped_leaves_nothing_open() {
    let world = World::start().await;
    let store: PostgresStore =
        world.postgres.builder().max_transactions(1).connect(&world.postgres.url()).await.unwrap();
    for at in 0..50_u32 {
        let mut beginning = Box::pin(store.begin());
        for _ in 0..at % 6 {
            if (&mut beginning).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(beginning);
        let mut transaction = store.begin().await.unwrap();
        assert!(is_won(&store.claim_in(&mut transaction, claim(at, 1)).await.unwrap()));
        store.commit(transaction).await.unwrap();
        assert!(matches!(world.store.claim(claim(at, 2)).await.unwrap(), Claimed::Busy { .. }), "claim {at} vanished");
    }
}
