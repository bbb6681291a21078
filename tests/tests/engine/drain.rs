//! The end of a process: what it waits for, and what it leaves behind.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use idem_runtime::{Drained, Idempotency, MemoryStore, Policy, store::StoreErrorKind};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::{Runs, cut_after},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

use crate::support::*;

/// Longer than anything here takes, for what would otherwise hang for good.
const HANGS: Duration = Duration::from_secs(20);

/// An operation whose caller is gone, standing at a gate.
async fn detached(idempotency: &Idempotency, policy: Policy, runs: &Runs) -> Gate {
    let gate = Gate::new();
    let effect = {
        let gate = gate.clone();
        async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        }
    };
    assert!(cut_after(1, pay_with(idempotency, policy, runs, effect)).await.is_none());
    gate.reached().await;
    gate
}

/// A drain beside the test.
fn draining(idempotency: &Idempotency) -> JoinHandle<Drained> {
    let idempotency = idempotency.clone();
    tokio::spawn(async move { idempotency.drain(HANGS).await })
}

#[tokio::test(start_paused = true)]
async fn drain_waits_up_to_its_bound_and_says_what_is_left() {
    let (_store, idempotency) = faulty();
    let runs = Runs::default();
    assert!(idempotency.drain(Duration::ZERO).await.finished, "nothing runs");
    let gate = detached(&idempotency, RETRY, &runs).await;
    let began = tokio::time::Instant::now();
    let drained = idempotency.drain(Duration::from_secs(3)).await;
    assert_eq!((drained.finished, drained.left), (false, 1));
    assert_eq!(began.elapsed(), Duration::from_secs(3));

    let draining = draining(&idempotency);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!draining.is_finished());
    gate.open();
    let drained = draining.await.unwrap();
    assert_eq!((drained.finished, drained.left), (true, 0));
    assert_eq!(runs.ended(), 1);
    assert!(began.elapsed() < Duration::from_secs(5), "as soon as nothing runs");
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_outcomes_that_the_store_has_not_taken() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    assert_fresh(&pay(&idempotency, RETRY, &runs).await);
    let drained = idempotency.drain(Duration::from_secs(3)).await;
    assert_eq!((drained.finished, drained.left), (false, 1));
    store.heal();
    let drained = idempotency.drain(Duration::from_secs(3)).await;
    assert_eq!((drained.finished, drained.left), (true, 0));
    assert_eq!(idempotency.metrics().unrecorded, 0);
}

/// The last outcome is recorded while another operation runs: there is more to wait for.
#[tokio::test(start_paused = true)]
async fn drain_waits_for_what_begins_while_it_waits_for_outcomes() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    assert_fresh(&pay(&idempotency, RETRY, &runs).await);
    let draining = draining(&idempotency);
    store.called(Step::Complete, store.calls(Step::Complete) + 1).await;
    let gate = detached(&idempotency, REFUSE, &runs).await;
    store.heal();
    // Longer than the pause between two offers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((idempotency.metrics().unrecorded, draining.is_finished()), (0, false));
    gate.open();
    let drained = draining.await.unwrap();
    assert_eq!((drained.finished, drained.left, runs.ended()), (true, 0, 2));
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Does it on a thread of its own, so that a test that would hang fails.
fn within<T: Send + 'static>(limit: Duration, what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(what()));
    receiver.recv_timeout(limit).expect("it came to an end")
}

/// A runtime ends with an operation in flight: its record stays in flight, and is abandoned when the lease is out.
#[test]
fn a_runtime_that_ends_leaves_the_record_in_flight() {
    for (policy, refuses) in [(RETRY, false), (REFUSE, true)] {
        let clock = idem_runtime::FakeClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let runs = Runs::default();
        let first = threads();
        let idempotency = runtime(store.clone());
        first.block_on(async {
            let gate = Gate::new();
            let effect = {
                let gate = gate.clone();
                async move |_| {
                    gate.pass().await;
                    Ok("paid".to_owned())
                }
            };
            tokio::spawn({
                let (idempotency, runs) = (idempotency.clone(), runs.clone());
                async move { pay_with(&idempotency, policy, &runs, effect).await }
            });
            gate.reached().await;
        });
        within(HANGS, move || drop(first));
        threads().block_on(async {
            let other = runtime(store);
            assert_refused(&pay(&other, policy, &runs).await, in_flight);
            clock.advance(LEASE + Duration::from_secs(1));
            let effect = async |attempt: idem_runtime::Attempt| Ok(attempt.number().to_string());
            let retry = pay_with(&other, policy, &runs, effect).await;
            if refuses {
                assert_refused(&retry, unknown);
            } else {
                assert_eq!(retry.unwrap().value, "2");
            }
            assert_eq!((runs.begun(), runs.ended()), if refuses { (1, 0) } else { (2, 1) });
            // The runtime is gone, its handle is not: it counts nothing as running, and works on.
            assert_eq!(idempotency.metrics().in_flight, 0);
            assert!(idempotency.drain(HANGS).await.finished);
        });
    }
}

/// An operation that begins while its runtime is being shut down must not stand in the way of that.
#[test]
fn a_runtime_that_is_ending_is_not_held_up() {
    for fault in [None, Some(Fault::Refused(StoreErrorKind::Unreachable))] {
        within(HANGS, move || {
            let store = FaultyStore::new(MemoryStore::new());
            if let Some(fault) = fault {
                store.fail(Step::Complete, fault);
            }
            let idempotency = runtime(store);
            let ending = threads();
            let (begun, has_begun) = mpsc::channel();
            let (shut_down, is_shut_down) = mpsc::channel::<()>();
            let (ended, has_ended) = mpsc::channel();
            ending.spawn(async move {
                begun.send(()).unwrap();
                // In the middle of a poll, which a shutdown waits for.
                is_shut_down.recv().unwrap();
                let result = cut_after(1, pay(&idempotency, RETRY, &Runs::default())).await;
                ended.send(result.is_some()).unwrap();
            });
            has_begun.recv().unwrap();
            ending.shutdown_background();
            shut_down.send(()).unwrap();
            let began = Instant::now();
            assert!(has_ended.recv_timeout(HANGS / 2).is_ok(), "hangs after {:?}", began.elapsed());
        });
    }
}

/// What one runtime could not finish, the next one does: leases are renewed and outcomes offered there.
#[test]
fn a_second_runtime_goes_on() {
    let store = FaultyStore::new(MemoryStore::new());
    let idempotency = runtime(store.clone());
    let runs = Runs::default();
    let first = threads();
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    first.block_on(async { assert_fresh(&pay(&idempotency, RETRY, &runs).await) });
    within(HANGS, move || drop(first));
    assert_eq!(idempotency.metrics().unrecorded, 1);
    store.heal();
    threads().block_on(async {
        assert!(idempotency.drain(HANGS).await.finished, "the outcome is offered here");
        assert_replay(&pay(&runtime(store), RETRY, &runs).await);
    });
    assert_eq!(runs.begun(), 1);
}
