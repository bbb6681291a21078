//! Events whose effect is a row of the store's own database: record and row are both there, or neither is.

use std::{
    any::Any,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use idem_runtime::{
    Attempt, Idempotency, Missing, OnConflict, Policy, PostgresStore, SqliteStore, Tx,
    consumer::{ConsumeError, Consumer, Event, ParkedReason, ProcessError, Redriven},
    store::{StoreErrorKind, Transactions, sqlite::driver as sqlx},
};
use tempfile::TempDir;
use tests::{
    backend::{Fixture, Postgres},
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    servers::eventually_async,
};
use tokio::sync::Barrier;

use crate::support::{
    Broke, FINANCIAL, Outcome, POLICY, Trouble, event, failed, is_acknowledged, killed_where_it_stands, outcome,
    panicked, refused,
};

/// Makes of every function `async fn name<D: Database>(ledger: Ledger<D>)` one test for each database.
macro_rules! on_every_database {
    ($($test:ident),* $(,)?) => {
        on_every_database!(@on sqlite, ::idem_runtime::SqliteStore, $($test),*);
        on_every_database!(@on postgres, ::idem_runtime::PostgresStore, $($test),*);
    };
    (@on $name:ident, $store:ty, $($test:ident),*) => {
        mod $name {
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(super::Ledger::<$store>::start().await).await;
                }
            )*
        }
    };
}

on_every_database!(
    effect_and_record_are_committed_together,
    an_event_delivered_at_once_has_one_row,
    an_error_is_rolled_back_and_its_attempt_survives,
    a_panic_is_rolled_back_and_counts_also_where_money_moves,
    a_worker_killed_before_its_commit_leaves_nothing,
    an_event_that_is_not_run_is_parked_and_runs_once_redriven,
    an_event_without_an_id_has_a_row_each_time_where_that_is_chosen,
    a_transaction_of_the_callers_own_commits_all_of_it,
    a_transaction_of_the_callers_own_that_is_dropped_leaves_nothing,
    an_error_in_a_transaction_of_the_callers_own_counts_once_it_is_rolled_back,
    a_panic_in_a_transaction_of_the_callers_own_counts_once_it_is_rolled_back,
    an_event_that_is_not_run_is_parked_once_the_callers_own_is_rolled_back,
    both_ways_are_one_consumer,
    what_was_abandoned_under_a_lease_where_money_moves_is_parked,
    a_handler_that_keeps_its_transaction_is_told,
);

/// What the tests do with a database.
#[async_trait]
trait Database: Transactions {
    /// An empty store, the schema of its tables, and what must live as long.
    async fn open() -> (Self, String, Box<dyn Any + Send + Sync>);

    /// Another process with a store there.
    async fn open_again(alive: &(dyn Any + Send + Sync)) -> Self;

    async fn execute(connection: &mut Self::Connection, statement: String) -> Result<(), Broke>;

    async fn texts(connection: &mut Self::Connection, query: String) -> Vec<String>;
}

#[async_trait]
impl Database for SqliteStore {
    async fn open() -> (Self, String, Box<dyn Any + Send + Sync>) {
        let directory = tempfile::tempdir().expect("a directory");
        (Self::open_again(&directory).await, "main".to_owned(), Box::new(directory))
    }

    async fn open_again(alive: &(dyn Any + Send + Sync)) -> Self {
        let directory = alive.downcast_ref::<TempDir>().expect("its directory");
        let builder = Self::builder().lock_timeout(Duration::from_secs(30));
        builder.open(directory.path().join("records.db")).await.expect("an open store")
    }

    async fn execute(connection: &mut Self::Connection, statement: String) -> Result<(), Broke> {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(connection).await;
        done.map(|_| ()).map_err(|error| Broke(error.to_string()))
    }

    async fn texts(connection: &mut Self::Connection, query: String) -> Vec<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(connection).await.expect("rows")
    }
}

#[async_trait]
impl Database for PostgresStore {
    async fn open() -> (Self, String, Box<dyn Any + Send + Sync>) {
        let postgres = Postgres::start().await;
        (Self::open_again(&postgres).await, postgres.schema().to_owned(), Box::new(postgres))
    }

    async fn open_again(alive: &(dyn Any + Send + Sync)) -> Self {
        let postgres = alive.downcast_ref::<Postgres>().expect("its server");
        postgres.builder().connect(&postgres.url()).await.expect("a connected store")
    }

    async fn execute(connection: &mut Self::Connection, statement: String) -> Result<(), Broke> {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(connection).await;
        done.map(|_| ()).map_err(|error| Broke(error.to_string()))
    }

    async fn texts(connection: &mut Self::Connection, query: String) -> Vec<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(connection).await.expect("rows")
    }
}

/// A table of effects, and one of outgoing events.
struct Ledger<D> {
    store: D,
    schema: String,
    runtime: Idempotency,
    alive: Box<dyn Any + Send + Sync>,
}

/// What a handler does, in order.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Works,
    Fails,
    Panics,
}

impl<D: Database> Ledger<D> {
    async fn start() -> Self {
        let (store, schema, alive) = D::open().await;
        let runtime = Idempotency::builder(store.clone()).shared().build();
        let ledger = Self { store, schema, runtime, alive };
        let mut transaction = ledger.store.begin().await.expect("a transaction");
        for table in ["effects", "outbox"] {
            let create = format!("CREATE TABLE {}.{table} (what TEXT NOT NULL)", ledger.schema);
            D::execute(&mut transaction, create).await.expect("a table");
        }
        ledger.store.commit(transaction).await.expect("a commit");
        ledger
    }

    fn consumer(&self, policy: Policy) -> Consumer {
        self.runtime.consumer(policy)
    }

    /// Delivers an event in a transaction of ours. The value is the attempt's number.
    async fn deliver(&self, consumer: &Consumer, event: &Event, way: Way) -> Outcome {
        let (schema, what) = (self.schema.clone(), event.id().unwrap_or("nameless").to_owned());
        let handler = move |mut tx: Tx<D>, attempt: Attempt| {
            let (schema, what) = (schema.clone(), what.clone());
            async move { write::<D>(tx.connection(), &schema, &what, &attempt, way).await }
        };
        outcome(consumer.transact(&self.store, event.clone(), handler).await)
    }

    /// The same in a transaction of the caller's own.
    async fn deliver_in(&self, consumer: &Consumer, event: &Event, way: Way) -> Outcome {
        let mut transaction = self.store.begin().await.expect("a transaction");
        let what = event.id().unwrap_or("nameless").to_owned();
        let handler = async |connection: &mut D::Connection, attempt: Attempt| {
            write::<D>(connection, &self.schema, &what, &attempt, way).await
        };
        match consumer.process_in(&self.store, &mut transaction, event.clone(), handler).await {
            Ok(done) => {
                self.store.commit(transaction).await.expect("a commit");
                outcome(Ok(done))
            }
            Err(undone) => {
                self.store.rollback(transaction).await;
                outcome(Err(undone.settle().await))
            }
        }
    }

    /// The effects, which are as many as outgoing events.
    async fn effects(&self) -> Vec<String> {
        let mut transaction = self.store.begin().await.expect("a transaction");
        let query = |table| format!("SELECT what FROM {}.{table} ORDER BY what", self.schema);
        let effects = D::texts(&mut transaction, query("effects")).await;
        assert_eq!(effects, D::texts(&mut transaction, query("outbox")).await);
        self.store.rollback(transaction).await;
        effects
    }

    async fn redrive(&self, consumer: &Consumer, reason: ParkedReason) -> Event {
        let parked = consumer.parked(10).await.expect("a list");
        let [parked] = &parked[..] else { panic!("{parked:?}") };
        assert_eq!(parked.reason(), reason);
        match consumer.redrive(parked).await.expect("an answer") {
            Redriven::Deliver(event) => event,
            other => panic!("{other:?}"),
        }
    }
}

/// The effect and an outgoing event, and then what goes wrong.
async fn write<D: Database>(
    connection: &mut D::Connection,
    schema: &str,
    what: &str,
    attempt: &Attempt,
    way: Way,
) -> Result<usize, Broke> {
    for table in ["effects", "outbox"] {
        D::execute(connection, format!("INSERT INTO {schema}.{table} (what) VALUES ('{what}')")).await?;
    }
    match way {
        Way::Works => Ok(usize::try_from(attempt.number()).expect("a number")),
        Way::Fails => Err(Broke("no".to_owned())),
        Way::Panics => panic!("as it should"),
    }
}

async fn effect_and_record_are_committed_together<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    for (duplicate, id) in [(false, "evt_1"), (true, "evt_1"), (false, "evt_2"), (true, "evt_1")] {
        assert_eq!(ledger.deliver(&consumer, &event(id), Way::Works).await, Ok((1, duplicate)));
    }
    let other = ledger.consumer(Policy::new("bill").validate_for_events());
    assert_eq!(ledger.deliver(&other, &event("evt_1"), Way::Works).await, Ok((1, false)));
    assert_eq!(ledger.effects().await, ["evt_1", "evt_1", "evt_2"]);
}

async fn an_event_delivered_at_once_has_one_row<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.on_conflict(OnConflict::Wait(Duration::from_secs(50))));
    let (ledger, barrier) = (Arc::new(ledger), Arc::new(Barrier::new(20)));
    let deliveries = (0..20).map(|_| {
        let (ledger, consumer, barrier) = (ledger.clone(), consumer.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            ledger.deliver(&consumer, &event("evt_1"), Way::Works).await
        })
    });
    let outcomes = futures_util::future::join_all(deliveries).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("no panic")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok((1, false))).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok((1, true))).count(), 19, "{outcomes:?}");
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

async fn an_error_is_rolled_back_and_its_attempt_survives<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.max_attempts(3));
    for attempt in 1..=3 {
        let outcome = ledger.deliver(&consumer, &event("evt_1"), Way::Fails).await;
        assert_eq!(outcome, failed("no", attempt, attempt == 3));
        assert_eq!(is_acknowledged(&outcome), attempt == 3);
        assert_eq!(ledger.effects().await, [""; 0]);
    }
    let again = ledger.deliver(&consumer, &event("evt_1"), Way::Works).await;
    assert_eq!(again, refused(ConsumeError::Parked(ParkedReason::Failed)));
    let parked = consumer.parked(10).await.expect("a list").remove(0);
    assert_eq!((parked.error(), parked.attempts(), parked.id()), (Some("no"), 3, Some("evt_1")));
    let event = ledger.redrive(&consumer, ParkedReason::Failed).await;
    assert_eq!(ledger.deliver(&consumer, &event, Way::Fails).await, failed("no", 1, false));
    assert_eq!(ledger.deliver(&consumer, &event, Way::Works).await, Ok((2, false)));
    assert_eq!(ledger.deliver(&consumer, &event, Way::Works).await, Ok((2, true)));
    assert_eq!(ledger.effects().await, ["evt_1"]);
    assert_eq!(ledger.runtime.metrics().parked, 1);
}

async fn a_panic_is_rolled_back_and_counts_also_where_money_moves<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(FINANCIAL.max_attempts(2));
    let outcome = ledger.deliver(&consumer, &event("evt_1"), Way::Panics).await;
    assert_eq!(outcome, panicked(1));
    assert_eq!(ledger.effects().await, [""; 0]);
    assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Works).await, Ok((2, false)));
    for parked in [false, true] {
        let outcome = ledger.deliver(&consumer, &event("evt_2"), Way::Panics).await;
        assert_eq!(is_acknowledged(&outcome), parked, "{outcome:?}");
    }
    assert_eq!(ledger.redrive(&consumer, ParkedReason::Failed).await, event("evt_2"));
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

async fn a_worker_killed_before_its_commit_leaves_nothing<D: Database>(ledger: Ledger<D>) {
    let ledger = Arc::new(ledger);
    let doomed = ledger.clone();
    let work = move |stands: mpsc::Sender<()>| async move {
        let store = D::open_again(&*doomed.alive).await;
        let consumer = Idempotency::builder(store.clone()).shared().build().consumer(FINANCIAL);
        let handler = move |mut tx: Tx<D>, attempt: Attempt| {
            let (schema, stands) = (doomed.schema.clone(), stands.clone());
            async move {
                write::<D>(tx.connection(), &schema, "evt_1", &attempt, Way::Works).await?;
                stands.send(()).expect("a test that waits");
                std::future::pending::<Result<usize, Broke>>().await
            }
        };
        consumer.transact(&store, event("evt_1"), handler).await
    };
    killed_where_it_stands(work).await;
    assert_eq!(ledger.effects().await, [""; 0]);
    let consumer = ledger.consumer(FINANCIAL);
    // What the database has undone counts as no attempt, and leaves nothing unknown.
    for duplicate in [false, true] {
        assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Works).await, Ok((1, duplicate)));
    }
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

async fn an_event_that_is_not_run_is_parked_and_runs_once_redriven<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Works).await, Ok((1, false)));
    for (strange, reason) in [
        (Event::new("evt_1", "another payload"), ParkedReason::KeyReused),
        (Event::without_id("payload"), ParkedReason::NoId),
    ] {
        for _ in 0..2 {
            let outcome = ledger.deliver(&consumer, &strange, Way::Works).await;
            assert_eq!(outcome, refused(ConsumeError::Parked(reason)));
        }
        assert_eq!(ledger.redrive(&consumer, reason).await, strange);
        assert_eq!(ledger.deliver(&consumer, &strange, Way::Works).await, Ok((1, false)));
        assert_eq!(ledger.deliver(&consumer, &strange, Way::Works).await, Ok((1, true)));
        assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Works).await, Ok((1, true)));
    }
    assert_eq!(ledger.effects().await, ["evt_1", "evt_1", "nameless"]);
}

async fn an_event_without_an_id_has_a_row_each_time_where_that_is_chosen<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.missing(Missing::Run).max_attempts(1));
    let nameless = Event::without_id("payload");
    for _ in 0..2 {
        assert_eq!(ledger.deliver(&consumer, &nameless, Way::Works).await, Ok((1, false)));
        assert_eq!(ledger.deliver_in(&consumer, &nameless, Way::Works).await, Ok((1, false)));
        assert_eq!(ledger.deliver(&consumer, &nameless, Way::Fails).await, failed("no", 1, false));
        assert_eq!(ledger.deliver_in(&consumer, &nameless, Way::Fails).await, failed("no", 1, false));
    }
    assert_eq!(ledger.effects().await, ["nameless"; 4]);
}

async fn a_transaction_of_the_callers_own_commits_all_of_it<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    for duplicate in [false, true] {
        assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await, Ok((1, duplicate)));
    }
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

/// A worker that is killed before its commit.
async fn a_transaction_of_the_callers_own_that_is_dropped_leaves_nothing<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    let mut transaction = ledger.store.begin().await.expect("a transaction");
    let handler = async |connection: &mut D::Connection, attempt: Attempt| {
        write::<D>(connection, &ledger.schema, "evt_1", &attempt, Way::Works).await
    };
    let done = consumer.process_in(&ledger.store, &mut transaction, event("evt_1"), handler).await;
    assert!(done.is_ok_and(|done| !done.duplicate));
    drop(transaction);
    assert_eq!(ledger.effects().await, [""; 0]);
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await, Ok((1, false)));
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

async fn an_error_in_a_transaction_of_the_callers_own_counts_once_it_is_rolled_back<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.max_attempts(2));
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Fails).await, failed("no", 1, false));
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Fails).await, failed("no", 2, true));
    let again = ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await;
    assert_eq!(again, refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert_eq!(ledger.effects().await, [""; 0]);
    let event = ledger.redrive(&consumer, ParkedReason::Failed).await;
    assert_eq!(ledger.deliver_in(&consumer, &event, Way::Works).await, Ok((1, false)));
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

async fn a_panic_in_a_transaction_of_the_callers_own_counts_once_it_is_rolled_back<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.max_attempts(2));
    let outcome = ledger.deliver_in(&consumer, &event("evt_1"), Way::Panics).await;
    assert_eq!(outcome, panicked(1));
    let parked = refused(ConsumeError::Parked(ParkedReason::Failed));
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Panics).await, parked);
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await, parked);
    assert_eq!(ledger.effects().await, [""; 0]);
    assert_eq!(ledger.runtime.metrics().panics, 2);
    let careless = ledger.consumer(POLICY.missing(Missing::Run));
    let outcome = ledger.deliver_in(&careless, &Event::without_id("payload"), Way::Panics).await;
    assert_eq!(outcome, panicked(1));
}

async fn an_event_that_is_not_run_is_parked_once_the_callers_own_is_rolled_back<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await, Ok((1, false)));
    for (strange, reason) in [
        (Event::new("evt_1", "another payload"), ParkedReason::KeyReused),
        (Event::without_id("payload"), ParkedReason::NoId),
    ] {
        for _ in 0..2 {
            let outcome = ledger.deliver_in(&consumer, &strange, Way::Works).await;
            assert_eq!(outcome, refused(ConsumeError::Parked(reason)));
        }
        assert_eq!(ledger.redrive(&consumer, reason).await, strange);
        assert_eq!(ledger.deliver_in(&consumer, &strange, Way::Works).await, Ok((1, false)));
        assert_eq!(ledger.deliver_in(&consumer, &strange, Way::Works).await, Ok((1, true)));
    }
    assert_eq!(ledger.effects().await, ["evt_1", "evt_1", "nameless"]);
}

async fn both_ways_are_one_consumer<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY);
    assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Fails).await, failed("no", 1, false));
    assert_eq!(ledger.deliver_in(&consumer, &event("evt_1"), Way::Works).await, Ok((2, false)));
    let plain = consumer.process(event("evt_1"), |_| async { Ok::<_, Broke>(7_usize) }).await;
    assert_eq!(outcome(plain), Ok((2, true)));
    assert_eq!(ledger.effects().await, ["evt_1"]);
}

/// By a consumer that held leases before it had transactions.
async fn what_was_abandoned_under_a_lease_where_money_moves_is_parked<D: Database>(ledger: Ledger<D>) {
    let policy = FINANCIAL.lease(Duration::from_millis(200));
    let consumer = ledger.consumer(policy);
    let mut effects = Vec::new();
    for (id, in_ours) in [("evt_1", true), ("evt_2", false)] {
        // Its worker is as good as gone: nobody hears of it again.
        let cut_off = FaultyStore::new(ledger.store.clone());
        cut_off.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
        let gone = Idempotency::builder(cut_off).shared().build().consumer(policy);
        let gate = Gate::new();
        let stands = tokio::spawn({
            let gate = gate.clone();
            async move {
                let handler = async move |_: Attempt| {
                    gate.pass().await;
                    Ok::<_, Broke>(1_usize)
                };
                gone.process(event(id), handler).await
            }
        });
        gate.reached().await;
        let deliver = async || match in_ours {
            true => ledger.deliver(&consumer, &event(id), Way::Works).await,
            false => ledger.deliver_in(&consumer, &event(id), Way::Works).await,
        };
        let outcome = eventually_async("its lease is over", Duration::from_secs(30), async || match deliver().await {
            Err(Trouble::Told(ProcessError::Refused(ConsumeError::InFlight { .. }))) => None,
            other => Some(other),
        });
        assert_eq!(outcome.await, refused(ConsumeError::Parked(ParkedReason::OutcomeUnknown)));
        assert_eq!(ledger.effects().await, effects);
        assert_eq!(ledger.redrive(&consumer, ParkedReason::OutcomeUnknown).await, event(id));
        assert_eq!(deliver().await, Ok((1, false)));
        effects.push(id.to_owned());
        assert_eq!(ledger.effects().await, effects);
        stands.abort();
    }
}

/// It did not panic, and nothing that it did is committed.
async fn a_handler_that_keeps_its_transaction_is_told<D: Database>(ledger: Ledger<D>) {
    let consumer = ledger.consumer(POLICY.max_attempts(1));
    let kept = Arc::new(Mutex::new(None));
    let handler = {
        let kept = kept.clone();
        move |tx: Tx<D>, _: Attempt| {
            *kept.lock().unwrap() = Some(tx);
            async { Ok::<_, Broke>(1_usize) }
        }
    };
    let leaked = outcome(consumer.transact(&ledger.store, event("evt_1"), handler).await);
    assert_eq!(leaked, refused(ConsumeError::Leaked));
    assert!(!is_acknowledged(&leaked));
    drop(kept.lock().unwrap().take());
    assert_eq!(ledger.effects().await, [""; 0]);
    // Nor is it counted, so that it is not parked.
    assert_eq!(ledger.deliver(&consumer, &event("evt_1"), Way::Works).await, Ok((1, false)));
    assert_eq!(ledger.runtime.metrics().panics, 0);
}
