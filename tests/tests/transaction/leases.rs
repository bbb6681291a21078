//! What this process ran or runs under a lease, asked for once more in a transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use idem_runtime::{
    Attempt, ExecuteError, Executed, FakeClock, Fingerprint, Idempotency, MemoryStore, OnAbandoned, Operation, Policy,
    Principal, Recover, Refusal, Settlement, Tx, Unsettled,
    consumer::{Event, ProcessError},
    store::{StoreErrorKind, Transactions},
};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::RuntimeClock,
};
use tokio::task::JoinHandle;

use crate::fake::{Connection, Fake};

const LEASE: Duration = Duration::from_secs(30);

type Result = std::result::Result<Executed<String>, ExecuteError<&'static str>>;

/// The records, their database, and a runtime on them; steps fail for the runtime alone.
fn started() -> (FaultyStore, Fake, Idempotency) {
    let records = MemoryStore::with_clock(RuntimeClock::new());
    let store = FaultyStore::new(records.clone());
    let runtime = Idempotency::builder(store.clone()).shared().build();
    (store, Fake::on(records), runtime)
}

fn operation() -> Operation {
    Operation::new(Policy::new("calls").lease(LEASE), Principal::SHARED, "k")
}

fn gone() -> Fault {
    Fault::Refused(StoreErrorKind::Unreachable)
}

/// A run under a lease that stands at the gate.
async fn stands(runtime: &Idempotency) -> (Gate, JoinHandle<Result>) {
    let gate = Gate::new();
    let run = tokio::spawn({
        let (runtime, gate) = (runtime.clone(), gate.clone());
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        async move { runtime.execute(operation(), effect).await }
    });
    gate.reached().await;
    (gate, run)
}

/// In a transaction of ours, and in one of the caller's own.
async fn in_both_ways(runtime: &Idempotency, fake: &Fake, operation: Operation) -> [Result; 2] {
    let ours = in_a_transaction_of_ours(runtime, fake, operation.clone()).await;
    [ours, in_one_of_the_callers(runtime, fake, operation).await]
}

async fn in_a_transaction_of_ours(runtime: &Idempotency, fake: &Fake, operation: Operation) -> Result {
    let effect = |mut tx: Tx<Fake>, _| async move {
        tx.connection().write("again");
        Ok("again".to_owned())
    };
    runtime.transact(fake, operation, effect).await
}

async fn in_one_of_the_callers(runtime: &Idempotency, fake: &Fake, operation: Operation) -> Result {
    let mut transaction = fake.begin().await.expect("a transaction");
    let effect = async |connection: &mut Connection, _| {
        connection.write("again");
        Ok("again".to_owned())
    };
    runtime.execute_in(fake, &mut transaction, &operation, effect).await
}

/// Asserts that nothing ran in either, and that this is what is said of it.
fn assert_refused(ran: [Result; 2], expected: impl Fn(&Refusal) -> bool) {
    for ran in ran {
        assert!(matches!(&ran, Err(ExecuteError::Refused(refusal)) if expected(refusal)), "{ran:?}");
    }
}

fn assert_replayed(ran: [Result; 2]) {
    for ran in ran {
        assert!(matches!(&ran, Ok(Executed { value, replayed: true, .. }) if value == "paid"), "{ran:?}");
    }
}

/// Its lease is out, so the database would give it to whoever asks.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_not_recorded_yet_is_replayed() {
    let (store, fake, runtime) = started();
    store.fail(Step::Complete, gone());
    store.fail(Step::Renew, gone());
    let paid: Result = runtime.execute(operation(), async |_| Ok("paid".to_owned())).await;
    assert!(paid.is_ok_and(|paid| !paid.replayed));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_replayed(in_both_ways(&runtime, &fake, operation()).await);
    let other = operation().fingerprint(Fingerprint::of_bytes(b"other"));
    assert_refused(in_both_ways(&runtime, &fake, other).await, |refusal| *refusal == Refusal::Mismatch);
    assert_eq!((fake.entries().len(), runtime.metrics().executed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_under_a_lease_that_ran_out_is_in_flight() {
    let (store, fake, runtime) = started();
    store.fail(Step::Renew, gone());
    let (gate, first) = stands(&runtime).await;
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let in_flight = |refusal: &Refusal| matches!(refusal, Refusal::InFlight { .. });
    assert_refused(in_both_ways(&runtime, &fake, operation()).await, in_flight);
    gate.open();
    let paid = first.await.expect("no panic");
    assert!(paid.is_ok_and(|paid| !paid.replayed));
    assert_replayed(in_both_ways(&runtime, &fake, operation()).await);
    assert_eq!((fake.entries().len(), runtime.metrics().executed), (0, 1));
}

/// There it was taken over, and is undone with its transaction.
#[tokio::test(start_paused = true)]
async fn what_runs_under_a_lease_is_in_flight_where_the_stores_clock_leaps() {
    let money = || Operation::new(Policy::new("calls").lease(LEASE).financial(), Principal::SHARED, "k").any_input();
    for (in_ours, duplicate) in [(true, operation()), (false, operation()), (true, money()), (false, money())] {
        let clock = FakeClock::new();
        let records = MemoryStore::with_clock(clock.clone());
        let runtime = Idempotency::builder(records.clone()).shared().build();
        let fake = Fake::on(records);
        let (gate, first) = stands(&runtime).await;
        clock.advance(LEASE * 2);
        let duplicate = match in_ours {
            true => in_a_transaction_of_ours(&runtime, &fake, duplicate).await,
            false => in_one_of_the_callers(&runtime, &fake, duplicate).await,
        };
        assert!(matches!(duplicate, Err(ExecuteError::Refused(Refusal::InFlight { .. }))), "{duplicate:?}");
        gate.open();
        let paid = first.await.expect("no panic");
        assert!(paid.is_ok_and(|paid| !paid.replayed));
        assert_replayed(in_both_ways(&runtime, &fake, operation()).await);
        assert_eq!((fake.entries().len(), runtime.metrics().executed), (0, 1));
    }
}

/// As without a transaction.
#[tokio::test(start_paused = true)]
async fn what_was_abandoned_is_asked_about_before_it_is_run() {
    async fn ask(unsettled: Unsettled) -> Option<Settlement> {
        unsettled.context::<Arc<AtomicUsize>>()?.fetch_add(1, SeqCst);
        Some(Settlement::not_executed())
    }
    const ASKED: OnAbandoned = OnAbandoned::Recover(Recover::new(|lost| Box::pin(ask(lost))));
    let (clock, asked) = (FakeClock::new(), Arc::new(AtomicUsize::new(0)));
    let records = MemoryStore::with_clock(clock.clone());
    let gone = Idempotency::builder(records.clone()).shared().build();
    let runtime = Idempotency::builder(records.clone()).shared().context(asked.clone()).build();
    let (_gate, first) = stands(&gone).await;
    clock.advance(LEASE * 2);
    let operation = Operation::new(Policy::new("calls").lease(LEASE).on_abandoned(ASKED), Principal::SHARED, "k");
    let ran = in_a_transaction_of_ours(&runtime, &Fake::on(records), operation).await;
    assert!(matches!(&ran, Ok(Executed { value, replayed: false, .. }) if value == "again"), "{ran:?}");
    assert_eq!((asked.load(SeqCst), runtime.metrics().recovered), (1, 1));
    first.abort();
}

/// The attempt that was rolled back came first, and is counted last.
#[tokio::test(start_paused = true)]
async fn what_ran_since_and_is_not_recorded_yet_is_not_parked() {
    let (store, fake, runtime) = started();
    let consumer = runtime.consumer(Policy::new("ship").lease(LEASE).max_attempts(1));
    let event = Event::new("evt_1", "{}");
    let mut transaction = fake.begin().await.expect("a transaction");
    let fails = async |_: &mut Connection, _| Err::<String, _>("no");
    let undone = consumer.process_in(&fake, &mut transaction, event.clone(), fails).await.expect_err("undone");
    fake.rollback(transaction).await;
    let process = || consumer.process(event.clone(), async |_| Ok::<_, &str>("shipped".to_owned()));
    store.fail(Step::Complete, gone());
    store.fail(Step::Renew, gone());
    assert!(process().await.is_ok_and(|done| !done.duplicate));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let settled = undone.settle().await;
    assert!(matches!(settled, ProcessError::Failed { error: "no", attempt: 1, parked: false, .. }), "{settled:?}");
    store.heal();
    assert!(runtime.drain(LEASE).await.finished);
    assert!(process().await.is_ok_and(|done| done.duplicate));
    assert_eq!(runtime.metrics().parked, 0);
}

/// The claim under which it is counted has a lease.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_undone_never_looks_abandoned() {
    let (_, fake, runtime) = started();
    let consumer = runtime.consumer(Policy::new("charge").lease(LEASE).financial());
    let deliver = async |result: std::result::Result<u32, &'static str>| {
        let handler = move |_: Tx<Fake>, attempt: Attempt| async move { result.map(|_| attempt.number()) };
        consumer.transact(&fake, Event::new("evt_1", "{}"), handler).await
    };
    fake.releases([StoreErrorKind::Unreachable; 20]);
    let failed = deliver(Err("no")).await;
    assert!(matches!(failed, Err(ProcessError::Failed { error: "no", attempt: 1, parked: false, .. })), "{failed:?}");
    assert!(runtime.drain(LEASE).await.finished);
    tokio::time::sleep(LEASE * 2).await;
    assert!(deliver(Ok(0)).await.is_ok_and(|done| done.value == 2 && !done.duplicate));
}
