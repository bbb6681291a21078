//! Events: what fails, panics or is parked, and the workers around it.

use std::{fmt, sync::LazyLock, time::Duration};

use idem_runtime::{
    Idempotency, MemoryStore, Policy, Tx,
    consumer::{
        Consumer, Event, ParkedReason, ProcessError, Processed, Redriven,
        redis_streams::{Worker, WorkerBuilder},
    },
    store::StoreErrorKind,
};
use tests::{
    backend::{Fixture as _, Postgres, Sqlite},
    faulty_store::{Fault, FaultyStore, Step},
    servers::{RedisServer, eventually_async, free_port},
};

use crate::{
    ANSWER, BODY, LOG, PASSWORD, PEPPER, Printing, assert_shows_nothing,
    transactions::{Sql, in_a_file, secured},
};

const ID: &str = "SECRET-id";
const POLICY: Policy = Policy::new("ship").max_attempts(2).validate_for_events();

/// What a handler says of its own accord: its caller's to show, and nobody else's.
#[derive(Debug)]
struct Broke;

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SECRET-error")
    }
}

/// Writes down what a consumer says of a delivery, as a worker reports it.
fn tell(said: Result<Processed<String>, ProcessError<Broke>>) -> bool {
    match &said {
        Ok(done) => LOG.add("duplicate", &done.duplicate),
        Err(ProcessError::Refused(error)) => {
            LOG.add("delivery", &error.delivery());
            LOG.add_error("refused", error);
        }
        Err(failed) => LOG.add("failed", &(failed.delivery(), failed.parked())),
    }
    said.is_ok()
}

/// Lists what is parked and redrives all of it.
async fn redrive(consumer: &Consumer, parked: usize) {
    let events = consumer.parked(100).await.unwrap();
    LOG.add("parked", &events);
    assert_eq!(events.len(), parked);
    for event in events {
        let redriven = consumer.redrive(&event).await.unwrap();
        LOG.add("redriven", &redriven);
        assert!(matches!(redriven, Redriven::Deliver(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_shows_a_secret() {
    LazyLock::force(&LOG);
    let store = FaultyStore::new(MemoryStore::new());
    let runtime = Idempotency::builder(Printing(store.clone())).shared().pepper(PEPPER).build();
    let consumer = runtime.consumer(POLICY);
    LOG.add("consumer", &consumer);
    let fail = async |event: Event| {
        LOG.add("event", &event);
        assert!(!tell(consumer.process(event, |_| async { Err(Broke) }).await));
    };
    let panic = async |event: Event| {
        let panics = |_| async { panic!("SECRET-panic") };
        assert!(!tell(consumer.process(event, panics).await));
    };
    let work = async |event: Event| tell(consumer.process(event, |_| async { Ok(ANSWER.to_owned()) }).await);
    for way in ["fails", "panics"] {
        let event = Event::new(format!("{ID}-{way}"), BODY);
        for _ in 0..2 {
            if way == "fails" { fail(event.clone()).await } else { panic(event.clone()).await }
        }
        assert!(!work(event).await, "it is parked");
    }
    assert!(work(Event::new(ID, BODY)).await);
    assert!(!work(Event::new(ID, "SECRET-other")).await);
    assert!(!work(Event::without_id("SECRET-nameless")).await);
    consumer.park(&Event::new("SECRET-undecodable", BODY), "SECRET-why").await.unwrap();
    redrive(&consumer, 5).await;

    let events =
        vec![Event::new("SECRET-batch", BODY), Event::new("SECRET-batch", "SECRET-other"), Event::new(ID, BODY)];
    for said in consumer.process_many(events, |_, _| async { Err::<String, _>(Broke) }).await {
        tell(said);
    }

    for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::Unreadable] {
        store.fail(Step::Claim, fault);
        assert!(!work(Event::new("SECRET-while-down", BODY)).await);
        assert!(!work(Event::without_id("SECRET-while-down")).await);
    }
    store.heal();
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    for _ in 0..2 {
        fail(Event::new("SECRET-parked-while-down", BODY)).await;
    }
    assert!(work(Event::new("SECRET-done-while-down", BODY)).await);
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    LOG.add("metrics", &runtime.metrics());
    assert_shows_nothing("an event", &LOG.text());
}

/// In a transaction of ours, and in one of the caller's own.
async fn no_event_in_a_transaction_shows_a_secret_on<D: Sql>(store: D) {
    LazyLock::force(&LOG);
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer = runtime.consumer(POLICY);
    let event = |way: &str| Event::new(format!("{ID}-{way}"), BODY);
    for way in ["fails", "panics", "works"] {
        for _ in 0..2 {
            let handler = move |mut tx: Tx<D>, _| async move {
                D::insert(tx.connection(), "SECRET-entry", None).await;
                match way {
                    "fails" => Err(Broke),
                    "panics" => panic!("SECRET-panic"),
                    _ => Ok(ANSWER.to_owned()),
                }
            };
            assert_eq!(tell(consumer.transact(&store, event(way), handler).await), way == "works");
        }
    }
    for id in ["SECRET-own", "SECRET-own", "SECRET-other-payload"] {
        let mut transaction = store.begin().await.unwrap();
        let fails = async |_: &mut D::Connection, _| Err::<String, _>(Broke);
        let undone = consumer.process_in(&store, &mut transaction, Event::new(id, BODY), fails).await.unwrap_err();
        LOG.add("undone", &undone);
        store.rollback(transaction).await;
        tell(Err(undone.settle().await));
    }
    let reused = Event::new(format!("{ID}-works"), "SECRET-other");
    let handler = async |_, _| Ok(ANSWER.to_owned());
    let refused = consumer.transact(&store, reused, handler).await;
    assert_eq!(refused.as_ref().err().and_then(ProcessError::parked), Some(ParkedReason::KeyReused));
    assert!(!tell(refused));
    redrive(&consumer, 4).await;
    assert_shows_nothing("an event in a transaction", &LOG.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_in_a_transaction_shows_a_secret_on_sqlite() {
    let sqlite = Sqlite::start().await;
    no_event_in_a_transaction_shows_a_secret_on(in_a_file(&sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_in_a_transaction_shows_a_secret_on_postgres() {
    let postgres = Postgres::start().await;
    no_event_in_a_transaction_shows_a_secret_on(secured(&postgres, "secured_events").await).await;
}

/// Nobody catches what it says, as a consumer does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_shows_a_secret() {
    LazyLock::force(&LOG);
    let server = tokio::task::spawn_blocking(|| RedisServer::on(free_port(), &[], Some(PASSWORD))).await.unwrap();
    let builder: WorkerBuilder = Worker::builder(redis::Client::open(server.url()).unwrap(), "events");
    LOG.add("builder", &builder);
    let worker = builder.build();
    LOG.add("worker", &worker);
    let handler = async |event: Event| -> Result<Processed<String>, ProcessError<Broke>> {
        panic!("SECRET-panic of {:?}", event.payload())
    };
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { worker.run_each_until(handler, std::future::pending()).await }
    });
    server.run::<String>(&["XADD", "events", "*", "id", ID, "payload", BODY]);
    let told = async || LOG.text().contains("a handler of events panicked outside of its consumer").then_some(());
    eventually_async("it is told that a handler panicked", Duration::from_secs(60), told).await;
    LOG.add("metrics", &worker.metrics());
    running.abort();
    assert_shows_nothing("a worker", &LOG.text());
}
