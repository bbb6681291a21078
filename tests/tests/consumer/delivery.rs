//! The same event again: one effect, the first result, every delivery acknowledged.

use std::time::Duration;

use idem_runtime::{
    Fingerprint, FingerprintRule, Idempotency, Missing, Operation, Policy, Principal,
    consumer::{ConsumeError, Delivery, Event, ProcessError, Processed},
};
use serde::{Deserialize, Serialize};
use tests::{backend::Backend, gate::Gate, probe::cut_after};

use crate::support::{
    Broke, Outcome, PATIENT, POLICY, Trouble, Worker, at_once, event, failed, is_acknowledged, outcome, panicked,
    refused,
};

tests::on_every_store!(
    an_event_delivered_twice_takes_effect_once,
    an_event_delivered_at_once_takes_effect_once,
    an_event_delivered_at_once_is_waited_for,
    a_delivery_beside_another_is_to_be_tried_again,
    a_duplicate_gets_the_first_value_whole,
    a_value_that_is_too_large_is_not_kept_and_not_made_again,
    two_consumers_each_run_once,
    a_consumer_never_meets_other_operations,
    what_is_the_same_event_is_up_to_the_fingerprint,
    a_handler_whose_delivery_is_dropped_runs_to_its_end,
    draining_waits_for_handlers,
    a_handler_knows_its_attempt,
    an_event_without_an_id_runs_where_that_is_written_out,
    an_event_is_forgotten_after_its_ttl_and_not_before,
    everything_is_counted,
);

async fn an_event_delivered_twice_takes_effect_once(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let first = worker.deliver(&event("evt_1")).await;
    let again = worker.deliver(&event("evt_1")).await;
    let elsewhere = worker.replica(&backend, POLICY).await.deliver(&event("evt_1")).await;
    assert_eq!((first, again, elsewhere), (Ok((1, false)), Ok((1, true)), Ok((1, true))));
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((2, false)));
    assert_eq!(worker.effects(), 2);
}

async fn an_event_delivered_at_once_takes_effect_once(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = worker.replica(&backend, POLICY).await;
    for round in 0..20 {
        let event = event(&format!("evt_{round}"));
        let workers: Vec<_> = (0..10).map(|at| if at % 2 == 0 { worker.clone() } else { other.clone() }).collect();
        let outcomes = at_once(&workers, &event).await;
        assert_eq!(worker.effects(), round + 1);
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok((round + 1, false))).count(), 1, "{outcomes:?}");
        for outcome in &outcomes {
            // Acknowledged, or delivered again and then acknowledged.
            assert!(
                matches!(outcome, Ok(_) | Err(Trouble::Told(ProcessError::Refused(ConsumeError::InFlight { .. })))),
                "{outcome:?}"
            );
        }
        assert_eq!(other.deliver(&event).await, Ok((round + 1, true)));
    }
}

async fn an_event_delivered_at_once_is_waited_for(backend: Backend) {
    let worker = Worker::start(&backend, PATIENT).await;
    let other = worker.replica(&backend, PATIENT).await;
    let workers: Vec<_> = (0..10).map(|at| if at % 2 == 0 { worker.clone() } else { other.clone() }).collect();
    let outcomes = at_once(&workers, &event("evt_1")).await;
    assert_eq!(worker.effects(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok((1, false))).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok((1, true))).count(), 9, "{outcomes:?}");
    assert!(outcomes.iter().all(is_acknowledged));
}

async fn a_delivery_beside_another_is_to_be_tried_again(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let gate = Gate::new();
    let running = held(&worker, &event("evt_1"), &gate);
    gate.reached().await;
    let beside = worker.deliver(&event("evt_1")).await;
    let Err(Trouble::Told(error @ ProcessError::Refused(ConsumeError::InFlight { retry_after, .. }))) = beside else {
        panic!("{beside:?}")
    };
    assert_eq!(error.delivery(), Delivery::Retry { after: retry_after });
    assert!(retry_after <= Duration::from_secs(30), "{retry_after:?}");
    gate.open();
    assert_eq!(running.await.expect("no panic"), Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Receipt {
    number: u64,
    text: String,
    lines: Vec<Option<i64>>,
}

async fn a_duplicate_gets_the_first_value_whole(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let receipt = Receipt { number: u64::MAX, text: "日本 \0 \"".to_owned(), lines: vec![Some(i64::MIN), None] };
    for duplicate in [false, true, true] {
        let value = Receipt { lines: if duplicate { Vec::new() } else { receipt.lines.clone() }, ..receipt.clone() };
        let done: Result<Processed<Receipt>, ProcessError<Broke>> =
            worker.consumer.process(event("evt_1"), move |_| async move { Ok(value) }).await;
        let done = done.expect("a value");
        assert_eq!((done.value, done.duplicate), (receipt.clone(), duplicate));
    }
    // Nothing is a value too.
    for duplicate in [false, true] {
        let done = worker.consumer.process(event("evt_2"), |_| async { Ok::<_, Broke>(()) }).await.expect("done");
        assert_eq!(done.duplicate, duplicate);
    }
}

async fn a_value_that_is_too_large_is_not_kept_and_not_made_again(backend: Backend) {
    let runtime = Idempotency::builder_shared(backend.connect().await).shared().max_answer_bytes(100).build();
    let consumer = runtime.consumer(POLICY);
    let large = || consumer.process(event("evt_1"), |_| async { Ok::<_, Broke>("x".repeat(100)) });
    assert_eq!(large().await.expect("a value").value.len(), 100);
    let again = large().await.expect_err("no value");
    assert_eq!(again, ProcessError::Refused(ConsumeError::NotKept));
    assert_eq!(again.delivery(), Delivery::Acknowledge);
}

async fn two_consumers_each_run_once(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = worker.other(Policy::new("bill").validate_for_events());
    for duplicate in [false, true] {
        assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, duplicate)));
        assert_eq!(other.deliver(&event("evt_1")).await, Ok((1, duplicate)));
    }
    assert_eq!((worker.effects(), other.effects()), (1, 1));
}

async fn a_consumer_never_meets_other_operations(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let operation = |principal| {
        Operation::new(POLICY, principal, "evt_1").fingerprint(Fingerprint::of_bytes(event("evt_1").payload()))
    };
    for principal in [Principal::SHARED, Principal::new("evt_1")] {
        let executed = worker.runtime.execute(operation(principal), |_| async { Ok::<_, Broke>(100) }).await;
        assert!(!executed.expect("a value").replayed);
    }
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
}

async fn what_is_the_same_event_is_up_to_the_fingerprint(backend: Backend) {
    let with = |rule| Policy::new("ship").fingerprint(rule).validate_for_events();
    let worker = Worker::start(&backend, POLICY).await;
    let reused = refused(ConsumeError::Parked(idem_runtime::consumer::ParkedReason::KeyReused));
    for (id, rule, first, same, other) in [
        ("bytes", FingerprintRule::Bytes, r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#, Some(r#"{"b":2,"a":1}"#)),
        ("json", FingerprintRule::Json, r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1.0 }"#, Some(r#"{"a":1,"b":3}"#)),
        ("fields", FingerprintRule::Fields(&["/a"]), r#"{"a":1,"b":2}"#, r#"{"b":3,"a":1}"#, Some(r#"{"a":2,"b":2}"#)),
        ("off", FingerprintRule::Off, "one", "another", None),
    ] {
        let worker = worker.other(with(rule));
        assert_eq!(worker.deliver(&Event::new(id, first)).await, Ok((1, false)), "{id}");
        assert_eq!(worker.deliver(&Event::new(id, same)).await, Ok((1, true)), "{id}");
        if let Some(other) = other {
            assert_eq!(worker.deliver(&Event::new(id, other)).await, reused, "{id}");
        }
    }
}

async fn a_handler_whose_delivery_is_dropped_runs_to_its_end(backend: Backend) {
    let worker = Worker::start(&backend, PATIENT).await;
    let gate = Gate::new();
    let (begun, effect) = (gate.clone(), worker.clone());
    let delivery = worker.consumer.process(event("evt_1"), move |_| async move {
        begun.pass().await;
        Ok::<_, Broke>(effect.effect())
    });
    let mut delivery = Box::pin(delivery);
    tokio::select! {
        done = &mut delivery => panic!("{done:?}"),
        () = gate.reached() => {}
    }
    drop(delivery);
    gate.open();
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
    assert_eq!((worker.effects(), worker.runtime.metrics().detached), (1, 1));
}

async fn draining_waits_for_handlers(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let gate = Gate::new();
    let running = held(&worker, &event("evt_1"), &gate);
    gate.reached().await;
    let early = worker.runtime.drain(Duration::from_millis(50)).await;
    assert_eq!((early.finished, early.left), (false, 1));
    gate.open();
    assert!(worker.runtime.drain(Duration::from_secs(30)).await.finished);
    assert_eq!(running.await.expect("no panic"), Ok((1, false)));
}

async fn a_handler_knows_its_attempt(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let mut told = Vec::new();
    for last in [false, false, true] {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = worker.consumer.process(event("evt_1"), move |attempt| async move {
            let owner = attempt.still_owner().await.expect("an answer");
            let _ = sender.send((attempt.number(), attempt.fence(), attempt.downstream_key("ship"), owner));
            if last { Ok(7) } else { Err(Broke("not yet".to_owned())) }
        });
        assert_eq!(outcome(done.await).is_ok(), last);
        told.push(receiver.await.expect("it ran"));
    }
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(told.is_sorted_by(|one, next| one.1 < next.1 && one.2 == next.2), "{told:?}");
    assert!(told.iter().all(|told| told.3));
}

async fn an_event_without_an_id_runs_where_that_is_written_out(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.missing(Missing::Run)).await;
    for run in 1..=2 {
        assert_eq!(worker.deliver(&Event::without_id("payload")).await, Ok((run, false)));
    }
    assert_eq!(worker.fail(&Event::without_id("payload"), "no").await, failed("no", 1, false));
    assert_eq!(worker.panic(&Event::without_id("payload")).await, panicked(1));
    assert_eq!(backend.records().await, 0);
    let metrics = worker.runtime.metrics();
    assert_eq!((metrics.executed, metrics.panics, metrics.in_flight), (4, 1, 0));
}

async fn an_event_is_forgotten_after_its_ttl_and_not_before(backend: Backend) {
    let policy = Policy::new("ship").ttl(Duration::from_secs(4)).validate_for_events();
    let worker = Worker::start(&backend, policy).await;
    let began = backend.now().await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
    assert!(backend.now().await - began < Duration::from_secs(4), "too slow to tell");
    backend.pass(Duration::from_secs(4)).await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((2, false)));
}

async fn everything_is_counted(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(2)).await;
    let gate = Gate::new();
    let running = held(&worker, &event("evt_1"), &gate);
    gate.reached().await;
    assert!(worker.deliver(&event("evt_1")).await.is_err());
    gate.open();
    assert!(running.await.expect("no panic").is_ok());
    assert!(worker.deliver(&event("evt_1")).await.is_ok());
    assert!(worker.panic(&event("evt_2")).await.is_err());
    assert!(worker.fail(&event("evt_2"), "no").await.is_err());
    assert!(worker.deliver(&Event::new("evt_1", "other")).await.is_err());
    assert!(worker.deliver(&Event::without_id("")).await.is_err());
    let metrics = worker.runtime.metrics();
    assert_eq!(
        (metrics.executed, metrics.replayed, metrics.conflicts, metrics.mismatches, metrics.panics, metrics.parked),
        (3, 1, 1, 1, 1, 3)
    );
    assert_eq!((metrics.in_flight, metrics.unrecorded, metrics.stale_owners, metrics.store_errors), (0, 0, 0, 0));
}

/// A delivery whose handler stands at the gate before its effect happens.
fn held(worker: &Worker, event: &Event, gate: &Gate) -> tokio::task::JoinHandle<Outcome> {
    let (worker, event, gate) = (worker.clone(), event.clone(), gate.clone());
    tokio::spawn(async move {
        let effect = worker.clone();
        let done = worker.consumer.process(event, move |_| async move {
            gate.pass().await;
            Ok(effect.effect())
        });
        outcome(done.await)
    })
}

/// Cut at every await point, a delivery leaves its event done or undone, and the next one ends it.
#[tokio::test]
async fn a_delivery_cut_anywhere_leaves_a_whole_event() {
    let backend = Backend::start::<tests::backend::Memory>().await;
    let worker = Worker::start(&backend, PATIENT).await;
    for polls in 0..10 {
        let event = event(&format!("evt_{polls}"));
        let before = worker.effects();
        let handler = worker.clone();
        let delivery = worker.consumer.process(event.clone(), move |_| async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, Broke>(handler.effect())
        });
        let _ = cut_after(polls, delivery).await;
        assert!(worker.deliver(&event).await.is_ok());
        assert_eq!(worker.effects(), before + 1, "{polls} polls");
    }
}
