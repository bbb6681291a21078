//! Whoever waits for the answer of another is told in time that there is none.

use std::time::Duration;

use idem_runtime::{Idempotency, MemoryStore, OnConflict, Policy};
use tests::{
    faulty_store::{FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::*;

/// By a process that is woken when the first run ends, and by one that can only ask again and again.
#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_is_refused_at_once() {
    const WAIT: Duration = Duration::from_millis(200);
    const PATIENT: Policy = RETRY.on_conflict(OnConflict::Wait(WAIT)).validate();
    let shared = memory();
    let (here, elsewhere) = (runtime(shared.clone()), runtime(shared));
    let (runs, gate) = (Runs::default(), Gate::new());
    let first = {
        let (here, runs, gate) = (here.clone(), runs.clone(), gate.clone());
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        tokio::spawn(async move { pay_with(&here, PATIENT, &runs, effect).await })
    };
    gate.reached().await;
    for idempotency in [&here, &elsewhere] {
        // The pauses between two questions are drawn by lot.
        for _ in 0..20 {
            let began = Instant::now();
            assert_refused(&pay(idempotency, PATIENT, &runs).await, in_flight);
            let waited = began.elapsed();
            assert!((WAIT..=WAIT + Duration::from_millis(50)).contains(&waited), "{waited:?}");
        }
    }
    gate.open();
    assert_fresh(&first.await.unwrap());
    for idempotency in [&here, &elsewhere] {
        assert_replay(&pay(idempotency, PATIENT, &runs).await);
    }
    assert_eq!((runs.begun(), runs.ended()), (1, 1));
}

/// Longer than any of these takes.
const LONG: Policy = RETRY.on_conflict(OnConflict::Wait(Duration::from_secs(60 * 60))).validate();

/// One that runs in another process, and pays once its gate is open.
async fn elsewhere(shared: MemoryStore, runs: &Runs) -> (Gate, JoinHandle<Result>) {
    let (gate, runs) = (Gate::new(), runs.clone());
    let passed = gate.clone();
    let effect = async move |_| {
        passed.pass().await;
        Ok("paid".to_owned())
    };
    let paying = tokio::spawn(async move { pay_with(&runtime(shared), LONG, &runs, effect).await });
    gate.reached().await;
    (gate, paying)
}

fn wait_here(idempotency: &Idempotency, runs: &Runs) -> JoinHandle<Result> {
    let (idempotency, runs) = (idempotency.clone(), runs.clone());
    tokio::spawn(async move { pay(&idempotency, LONG, &runs).await })
}

#[tokio::test(start_paused = true)]
async fn of_those_who_wait_for_one_key_one_asks_the_store() {
    const WAITING: usize = 50;
    let shared = memory();
    let store = FaultyStore::new(shared.clone());
    let (idempotency, runs) = (runtime(store.clone()), Runs::default());
    let (gate, first) = elsewhere(shared, &runs).await;
    let waiting: Vec<_> = (0..WAITING).map(|_| wait_here(&idempotency, &runs)).collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The pauses of the one grow to a quarter of a second, and are cut to the half at most.
    let asked = store.calls(Step::Claim);
    assert!((WAITING + 30..WAITING + 100).contains(&asked), "{asked} claims");
    gate.open();
    assert_fresh(&first.await.unwrap());
    // Each asks once more for the answer.
    for waiter in waiting {
        assert_replay(&waiter.await.unwrap());
    }
    assert!(store.calls(Step::Claim) <= asked + WAITING + 2, "{} claims", store.calls(Step::Claim));
    assert_eq!(runs.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_asks_where_the_one_who_asked_has_left() {
    let shared = memory();
    let (idempotency, runs) = (runtime(shared.clone()), Runs::default());
    let (gate, first) = elsewhere(shared, &runs).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(wait_here(&idempotency, &runs));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for left in waiting.drain(..2) {
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
    }
    gate.open();
    assert_fresh(&first.await.unwrap());
    let began = Instant::now();
    for waiter in waiting {
        assert_replay(&waiter.await.unwrap());
    }
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(runs.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_are_refused_at_once() {
    let shared = memory();
    let idempotency = Idempotency::builder(shared.clone()).shared().max_waiting(2).build();
    let runs = Runs::default();
    let (gate, first) = elsewhere(shared, &runs).await;
    let waiting = [wait_here(&idempotency, &runs), wait_here(&idempotency, &runs)];
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    assert_refused(&pay(&idempotency, LONG, &runs).await, in_flight);
    assert_eq!(began.elapsed(), Duration::ZERO);
    gate.open();
    assert_fresh(&first.await.unwrap());
    for waiter in waiting {
        assert_replay(&waiter.await.unwrap());
    }
    // Their places are free again.
    assert_replay(&pay(&idempotency, LONG, &runs).await);
}
