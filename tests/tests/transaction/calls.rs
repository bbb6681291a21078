//! Without HTTP: `transact`, and `execute_in` in a transaction of the caller's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use idem_runtime::{
    Attempt, ExecuteError, Executed, Fingerprint, Idempotency, MemoryStore, OnConflict, Operation, Policy,
    PostgresStore, Principal, Refusal, Settlement, SqliteStore, Tx,
    consumer::Event,
    store::{
        Resolved, StoreErrorKind, Transactions,
        postgres::{Isolation, driver as sqlx},
    },
};
use sqlx::Connection;
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::RuntimeClock,
    servers::eventually_async,
};

use crate::{
    bank::Database,
    fake::{Commit, Fake},
    on_every_database,
};

on_every_database!(
    a_call_runs_once_in_a_transaction_and_its_value_is_replayed,
    calls_at_once_run_once,
    a_call_that_fails_leaves_nothing,
    a_call_joins_the_transaction_of_its_caller,
    what_a_transaction_finds_abandoned_where_money_moves_can_be_settled,
);

const POLICY: Policy = Policy::new("calls").validate();

fn operation(key: &str) -> Operation {
    Operation::new(POLICY, Principal::new("acct_1"), key)
}

fn runtime(store: &impl Transactions) -> Idempotency {
    Idempotency::builder(store.clone()).shared().build()
}

type Result<T> = std::result::Result<Executed<T>, ExecuteError<&'static str>>;

/// A store of this database, and how a transaction of it writes an entry.
macro_rules! on_its_store {
    ($database:ident, |$store:ident, $write:ident| $body:block) => {
        match &$database {
            Database::Sqlite(directory, _) => {
                async fn write(tx: &mut Tx<SqliteStore>) {
                    sqlx::query("INSERT INTO ledger (entry) VALUES ('call')").execute(tx).await.expect("an entry");
                }
                let ($store, $write) = (Database::sqlite_store(directory, Duration::from_secs(30)).await, write);
                $body
            }
            Database::Postgres(postgres, _) => {
                async fn write(tx: &mut Tx<PostgresStore>) {
                    sqlx::query("INSERT INTO ledger (entry) VALUES ('call')").execute(tx).await.expect("an entry");
                }
                let lock = Duration::from_secs(30);
                let ($store, $write) =
                    (Database::postgres_store(postgres, lock, Isolation::ReadCommitted).await, write);
                $body
            }
        }
    };
}

async fn a_call_runs_once_in_a_transaction_and_its_value_is_replayed(database: Database) {
    on_its_store!(database, |store, write| {
        let runtime = runtime(&store);
        for replayed in [false, true] {
            let effect = move |mut tx, attempt: Attempt| async move {
                write(&mut tx).await;
                drop(tx);
                Ok::<_, &str>((attempt.number(), attempt.downstream_key("step")))
            };
            let called = runtime.transact(&store, operation("k"), effect).await.expect("a value");
            assert_eq!((called.value.0, called.value.1.len(), called.replayed), (1, 64, replayed));
        }
        let other = operation("k").fingerprint(Fingerprint::of_bytes(b"other"));
        let refused: Result<u8> = runtime.transact(&store, other, |_, _| async { Ok(1) }).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::Mismatch))), "{refused:?}");
    });
    assert_eq!((database.entries().await, database.records().await), (1, 1));
}

async fn calls_at_once_run_once(database: Database) {
    on_its_store!(database, |store, write| {
        let runtime = runtime(&store);
        let runs = Arc::new(AtomicUsize::new(0));
        let calls = (0..20).map(|_| {
            let runs = runs.clone();
            runtime.transact(&store, operation("k"), move |mut tx, _| {
                let run = runs.fetch_add(1, SeqCst) + 1;
                async move {
                    write(&mut tx).await;
                    Ok::<_, &str>(run)
                }
            })
        });
        let fresh = join_all(calls).await.into_iter().filter(|called| {
            let called = called.as_ref().expect("a value");
            assert_eq!(called.value, 1);
            !called.replayed
        });
        assert_eq!((fresh.count(), runs.load(SeqCst)), (1, 1));
    });
    assert_eq!(database.entries().await, 1);
}

async fn a_call_that_fails_leaves_nothing(database: Database) {
    on_its_store!(database, |store, write| {
        let runtime = runtime(&store);
        let failed: Result<()> = runtime
            .transact(&store, operation("k"), move |mut tx, _| async move {
                write(&mut tx).await;
                Err("declined")
            })
            .await;
        assert!(matches!(failed, Err(ExecuteError::Effect("declined"))), "{failed:?}");
        let panicked: Result<()> = runtime
            .transact(&store, operation("k"), move |mut tx, _| async move {
                write(&mut tx).await;
                panic!("the effect panics, as it is told to")
            })
            .await;
        assert!(matches!(panicked, Err(ExecuteError::Refused(Refusal::Panicked))), "{panicked:?}");
    });
    assert_eq!((database.entries().await, database.records().await), (0, 0));
}

async fn a_call_joins_the_transaction_of_its_caller(database: Database) {
    match &database {
        Database::Sqlite(directory, _) => {
            let store = Database::sqlite_store(directory, Duration::from_secs(30)).await;
            let mut connection = store.pool().acquire().await.expect("a connection");
            joins(&store, &mut connection, async |connection| {
                sqlx::query("INSERT INTO ledger (entry) VALUES ('own')").execute(connection).await.expect("an entry");
            })
            .await;
        }
        Database::Postgres(postgres, _) => {
            let store = Database::postgres_store(postgres, Duration::from_secs(30), Isolation::ReadCommitted).await;
            let options: sqlx::postgres::PgConnectOptions = postgres.url().parse().expect("a URL");
            let options = options.options([("search_path", postgres.schema())]);
            let mut connection = sqlx::PgConnection::connect_with(&options).await.expect("a connection");
            joins(&store, &mut connection, async |connection| {
                sqlx::query("INSERT INTO ledger (entry) VALUES ('own')").execute(connection).await.expect("an entry");
            })
            .await;
        }
    }
    assert_eq!((database.entries().await, database.records().await), (2, 1));
}

/// Rolls one back, commits one, and replays it, each with an entry of the effect and one of its caller.
async fn joins<D, C>(store: &D, connection: &mut D::Connection, write: impl AsyncFn(&mut D::Connection))
where
    D: Transactions<Connection = C>,
    C: Connection<Database: sqlx::Database<Connection = C>> + Send,
{
    let runtime = runtime(store);
    for (commit, replayed) in [(false, false), (true, false), (true, true)] {
        let mut transaction = connection.begin().await.expect("a transaction");
        let effect = async |connection: &mut C, attempt: Attempt| {
            write(connection).await;
            assert!(attempt.still_owner().await.is_ok_and(|owner| owner));
            Ok::<_, &str>(attempt.number())
        };
        let called = runtime.execute_in(store, &mut transaction, &operation("k"), effect).await.expect("a value");
        assert_eq!((called.value, called.replayed), (1, replayed));
        if !replayed {
            write(&mut transaction).await;
        }
        match commit {
            true => transaction.commit().await.expect("a commit"),
            false => transaction.rollback().await.expect("a rollback"),
        }
    }
}

/// What a handler that is not ours does: its future must be `Send`.
#[tokio::test]
async fn a_joined_call_can_be_spawned() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("spawned.db")).await.expect("a store");
    let runtime = runtime(&store);
    let spawned = tokio::spawn(async move {
        let mut transaction = store.pool().begin().await.expect("a transaction");
        let table = "CREATE TABLE spawned (number INTEGER)";
        let called = runtime
            .execute_in(&store, &mut transaction, &operation("k"), async |connection, attempt| {
                sqlx::query(table).execute(&mut *connection).await.map_err(|_| "no table")?;
                Ok::<_, &str>(attempt.number())
            })
            .await;
        transaction.commit().await.expect("a commit");
        called.map(|called| called.value)
    });
    assert!(matches!(spawned.await.expect("no panic"), Ok(1)));
}

/// A service that held leases before it had transactions.
async fn what_a_transaction_finds_abandoned_where_money_moves_can_be_settled(database: Database) {
    // Half of it must be left when the claim is answered, on a busy machine too.
    const MONEY: Policy = Policy::new("calls").financial().lease(Duration::from_secs(2));
    const PATIENCE: Duration = Duration::from_secs(30);
    async fn check<D: Transactions>(store: D, in_ours: bool) {
        let operation = || Operation::new(MONEY, Principal::new("acct_1"), format!("k {in_ours}")).any_input();
        // Its owner is as good as gone: nobody hears of it again.
        let cut_off = FaultyStore::new(store.clone());
        cut_off.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
        let gone = Idempotency::builder(cut_off).shared().build();
        let (gate, abandoned) = (Gate::new(), operation());
        let stands = tokio::spawn({
            let gate = gate.clone();
            async move {
                let effect = async move |_| {
                    gate.pass().await;
                    Ok::<_, &str>(1)
                };
                gone.execute(abandoned, effect).await
            }
        });
        gate.reached().await;
        let runtime = Idempotency::builder(store.clone()).shared().build();
        let call = async || {
            if in_ours {
                return runtime.transact(&store, operation(), |_, _| async { Ok::<_, &str>(7) }).await;
            }
            let mut transaction = store.begin().await.expect("a transaction");
            let effect = async |_: &mut D::Connection, _| Ok::<_, &str>(7);
            let called = runtime.execute_in(&store, &mut transaction, &operation(), effect).await;
            match &called {
                Ok(_) => store.commit(transaction).await.expect("a commit"),
                Err(_) => store.rollback(transaction).await,
            }
            called
        };
        let unknown = eventually_async("its lease is over", PATIENCE, async || match call().await {
            Err(ExecuteError::Refused(Refusal::InFlight { .. })) => None,
            other => Some(other),
        });
        assert!(matches!(unknown.await, Err(ExecuteError::Refused(Refusal::Unknown))));
        // What one of the caller's own found is undone with it, and found once more.
        eventually_async("it is known that its outcome is unknown", PATIENCE, async || {
            let settled = runtime.resolve(&operation(), Settlement::not_executed()).await.expect("an answer");
            (settled == Resolved::Applied).then_some(())
        })
        .await;
        assert!(call().await.is_ok_and(|done| done.value == 7 && !done.replayed));
        stands.abort();
    }
    for in_ours in [true, false] {
        match &database {
            Database::Sqlite(directory, _) => check(Database::sqlite_store(directory, PATIENCE).await, in_ours).await,
            Database::Postgres(postgres, _) => {
                let store = Database::postgres_store(postgres, PATIENCE, Isolation::ReadCommitted).await;
                check(store, in_ours).await;
            }
        }
    }
}

/// As under a lease: whoever left the name out would share a record with everybody who did.
#[tokio::test]
async fn a_call_without_a_name_is_refused() {
    let fake = Fake::new();
    let runtime = runtime(&fake);
    for (principal, key) in [(Principal::SHARED, ""), (Principal::new(""), "k")] {
        let operation = Operation::new(POLICY, principal, key);
        let transacted: Result<()> = runtime.transact(&fake, operation.clone(), |_, _| async { Ok(()) }).await;
        let mut transaction = fake.begin().await.expect("a transaction");
        let joined: Result<()> =
            runtime.execute_in(&fake, &mut transaction, &operation, async |_: &mut _, _| Ok(())).await;
        for refused in [transacted, joined] {
            assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::Unnamed))), "{refused:?}");
        }
    }
    assert_eq!(runtime.metrics().executed, 0);
}

/// As under a lease: a call with another amount would be answered with the value of the first.
#[tokio::test]
async fn a_call_where_money_moves_says_what_its_key_is_used_with() {
    let fake = Fake::new();
    let runtime = runtime(&fake);
    let unsaid = |key: &str| Operation::new(Policy::new("calls").financial(), Principal::SHARED, key);
    let call = async |operation: Operation| -> [Result<u8>; 2] {
        let transacted = runtime.transact(&fake, operation.clone(), async |_, _| Ok(7)).await;
        let mut transaction = fake.begin().await.expect("a transaction");
        let joined = runtime.execute_in(&fake, &mut transaction, &operation, async |_: &mut _, _| Ok(7)).await;
        fake.rollback(transaction).await;
        [transacted, joined]
    };
    for refused in call(unsaid("k")).await {
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::NoFingerprint))), "{refused:?}");
    }
    assert_eq!((runtime.metrics().executed, fake.records()), (0, 0));
    for said in [unsaid("k").fingerprint(Fingerprint::of_bytes(b"7")), unsaid("any").any_input()] {
        let [transacted, joined] = call(said).await;
        assert!(transacted.is_ok_and(|done| done.value == 7 && !done.replayed));
        assert!(joined.is_ok_and(|done| done.value == 7 && done.replayed));
    }
}

/// It has none: its record is committed with it, or not at all.
#[tokio::test(start_paused = true)]
async fn a_transaction_may_be_longer_than_any_lease() {
    let fake = Fake::on(MemoryStore::with_clock(RuntimeClock::new()));
    let runtime = runtime(&fake);
    let brief = Policy::new("brief").lease(Duration::from_millis(10)).ttl(Duration::from_millis(20));
    let slow = |_: Tx<Fake>, _| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, &str>(7)
    };
    let done: Result<i32> = runtime.transact(&fake, Operation::new(brief, Principal::SHARED, "k"), slow).await;
    assert!(done.is_ok_and(|done| done.value == 7 && !done.replayed));
}

/// One after the other each would ask for as long, and the last one be told that the call is in flight, though nothing runs.
#[tokio::test(start_paused = true)]
async fn calls_that_queue_while_the_store_does_not_answer_are_told_together() {
    let fake = Fake::on(MemoryStore::with_clock(RuntimeClock::new()));
    let runtime = runtime(&fake);
    fake.begins(std::iter::repeat_n(StoreErrorKind::Unreachable, 1000));
    let began = tokio::time::Instant::now();
    let calls = (0..30).map(|_| runtime.transact(&fake, operation("k"), async |_, _| Ok::<_, &str>(7)));
    for call in join_all(calls).await {
        let Err(ExecuteError::Refused(Refusal::Unavailable { kind, .. })) = call else { panic!("{call:?}") };
        assert_eq!(kind, StoreErrorKind::Unreachable);
    }
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    // Who comes later asks.
    fake.begins_well();
    let done = runtime.transact(&fake, operation("k"), async |_, _| Ok::<_, &str>(7)).await;
    assert!(done.is_ok_and(|done| !done.replayed));
}

/// As many run as may when those who wait are woken.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_take_no_place() {
    let fake = Fake::on(MemoryStore::with_clock(RuntimeClock::new()));
    let runtime = Idempotency::builder(fake.clone()).shared().max_in_flight(1).build();
    let patient = Policy::new("calls").on_conflict(OnConflict::Wait(Duration::from_secs(5)));
    let called = |policy: Policy, key: &str, gate: &Gate| {
        let (runtime, fake, gate) = (runtime.clone(), fake.clone(), gate.clone());
        let operation = Operation::new(policy, Principal::new("acct_1"), key);
        tokio::spawn(async move {
            let effect = move |_: Tx<Fake>, _: Attempt| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    Ok::<_, &'static str>(7)
                }
            };
            runtime.transact(&fake, operation, effect).await
        })
    };
    // Another transaction has the lock.
    fake.busy_after(0);
    let gate = Gate::new();
    let waits = called(patient, "k", &gate);
    // The runtime's time stands until everybody waits.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let elsewhere = Gate::new();
    let other = called(POLICY, "other", &elsewhere);
    elsewhere.reached().await;
    let refused = called(patient, "new", &gate).await.expect("a call");
    assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::Overloaded))), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    elsewhere.open();
    gate.open();
    for call in [waits, other] {
        assert!(call.await.expect("a call").is_ok_and(|done| !done.replayed));
    }
}

/// Whatever is borrowed for ever in their values and errors.
#[tokio::test]
async fn every_call_can_be_spawned() {
    let fake = Fake::new();
    let runtime = runtime(&fake);
    let consumer = runtime.consumer(POLICY);
    let event = |id| Event::new(id, "payload");
    let calls = [
        tokio::spawn({
            let runtime = runtime.clone();
            async move { runtime.execute(operation("k1"), async |_| Err::<u8, &'static str>("no")).await.is_err() }
        }),
        tokio::spawn({
            let (runtime, fake) = (runtime.clone(), fake.clone());
            let effect = async |_, _| Err::<u8, &'static str>("no");
            async move { runtime.transact(&fake, operation("k2"), effect).await.is_err() }
        }),
        tokio::spawn({
            let (consumer, event) = (consumer.clone(), event("1"));
            async move { consumer.process(event, async |_| Err::<u8, &'static str>("no")).await.is_err() }
        }),
        tokio::spawn({
            let (consumer, events) = (consumer.clone(), vec![event("2"), event("3")]);
            let handler = async |_, _| Err::<u8, &'static str>("no");
            async move { consumer.process_many(events, handler).await.iter().all(std::result::Result::is_err) }
        }),
        tokio::spawn({
            let (consumer, fake, event) = (consumer.clone(), fake.clone(), event("4"));
            let handler = async |_, _| Err::<u8, &'static str>("no");
            async move { consumer.transact(&fake, event, handler).await.is_err() }
        }),
    ];
    for call in calls {
        assert!(call.await.expect("no panic"));
    }
}

#[tokio::test]
async fn a_joined_call_says_when_to_begin_anew() {
    let fake = Fake::new();
    let runtime = runtime(&fake);
    let call = async |kind| {
        fake.claims([kind]);
        let mut transaction = fake.begin().await.expect("a transaction");
        let effect = async |_: &mut _, _| Ok::<(), &str>(());
        match runtime.execute_in(&fake, &mut transaction, &operation("k"), effect).await {
            Err(ExecuteError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    };
    assert_eq!(call(StoreErrorKind::Conflict).await, Refusal::Contended);
    for told in [StoreErrorKind::Unavailable, StoreErrorKind::Misconfigured] {
        assert!(matches!(call(told).await, Refusal::Unavailable { kind, .. } if kind == told));
    }
}

#[tokio::test]
async fn a_call_is_run_again_within_a_bound() {
    let fake = Fake::new();
    let runtime = runtime(&fake);
    let runs = Arc::new(AtomicUsize::new(0));
    let call = async |key: &str| -> Result<usize> {
        let runs = runs.clone();
        let effect = move |mut tx: Tx<Fake>, _| {
            let run = runs.fetch_add(1, SeqCst) + 1;
            async move {
                tx.connection().write("call");
                Ok(run)
            }
        };
        runtime.transact(&fake, operation(key), effect).await
    };
    fake.commits([Commit::Conflict; 4]);
    let called = call("k").await.expect("a value");
    assert_eq!((called.value, called.replayed), (5, false));
    fake.commits([Commit::Conflict; 5]);
    let contended = call("k2").await;
    assert!(matches!(contended, Err(ExecuteError::Refused(Refusal::Contended))), "{contended:?}");
    assert_eq!((fake.entries().len(), fake.records(), runtime.metrics().reruns), (1, 1, 8));
}
