//! Many events at once.

use std::{sync::Arc, time::Duration};

use idem_runtime::{
    Idempotency, Policy,
    consumer::{ConsumeError, Consumer, Event, ParkedReason},
};
use tests::{
    backend::{Backend, Watched},
    gate::Gate,
    probe::Runs,
};
use tokio::sync::Semaphore;

use crate::support::{
    Broke, Outcome, PATIENT, POLICY, Trouble, Worker, event, failed, is_acknowledged, outcome, panicked, refused,
};

tests::on_every_store!(
    a_batch_runs_each_event_once_and_answers_in_order,
    a_batch_that_fails_in_part_is_delivered_again_in_part,
    an_event_twice_in_a_batch_runs_once,
    an_id_twice_in_a_batch_with_two_payloads_is_parked,
    a_batch_asks_for_all_claims_at_once,
    a_batch_runs_so_many_handlers_beside_each_other,
    a_batch_waits_for_an_event_of_another,
    batches_at_once_run_each_event_once,
    a_batch_that_is_dropped_runs_to_its_end,
    an_event_of_a_batch_keeps_its_lease_while_it_waits_for_its_turn,
    an_empty_batch_is_nothing,
);

/// Delivers a batch to a handler that fails where the payload says so.
async fn deliver(worker: &Worker, events: &[Event]) -> Vec<Outcome> {
    let handler = worker.clone();
    let results = worker.consumer.process_many(events.to_vec(), move |event, _| {
        let worker = handler.clone();
        async move {
            match &event.payload()[..] {
                b"fail" => Err(Broke("no".to_owned())),
                b"panic" => panic!("as it should"),
                _ => Ok(worker.effect()),
            }
        }
    });
    results.await.into_iter().map(outcome).collect()
}

async fn a_batch_runs_each_event_once_and_answers_in_order(backend: Backend) {
    // One at a time, so that effects happen in the order of the events.
    let mut worker = Worker::start(&backend, POLICY).await;
    worker.consumer = worker.consumer.at_once(1);
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((1, false)));
    let events = [event("evt_1"), event("evt_2"), event("evt_3")];
    assert_eq!(deliver(&worker, &events).await, [Ok((2, false)), Ok((1, true)), Ok((3, false))]);
    assert_eq!(deliver(&worker, &events).await, [Ok((2, true)), Ok((1, true)), Ok((3, true))]);
    assert_eq!(worker.effects(), 3);
}

async fn a_batch_that_fails_in_part_is_delivered_again_in_part(backend: Backend) {
    let mut worker = Worker::start(&backend, POLICY.max_attempts(2)).await;
    worker.consumer = worker.consumer.at_once(1);
    let events = [
        event("evt_1"),
        Event::new("evt_2", "fail"),
        Event::without_id("payload"),
        Event::new("evt_3", "panic"),
        event("evt_4"),
    ];
    let first = deliver(&worker, &events).await;
    assert_eq!(
        first,
        [
            Ok((1, false)),
            failed("no", 1, false),
            refused(ConsumeError::Parked(ParkedReason::NoId)),
            panicked(1),
            Ok((2, false)),
        ]
    );
    let again: Vec<_> = events
        .iter()
        .zip(&first)
        .filter(|(_, outcome)| !is_acknowledged(outcome))
        .map(|(event, _)| event.clone())
        .collect();
    assert_eq!(again, [events[1].clone(), events[3].clone()]);
    let second = deliver(&worker, &again).await;
    assert_eq!(second, [failed("no", 2, true), refused(ConsumeError::Parked(ParkedReason::Failed))]);
    assert!(second.iter().all(is_acknowledged));
    assert_eq!((worker.effects(), worker.parked().await.len()), (2, 3));
}

async fn an_event_twice_in_a_batch_runs_once(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(2)).await;
    let broken = Event::new("evt_2", "fail");
    let events = [event("evt_1"), broken.clone(), event("evt_1"), broken.clone(), event("evt_1")];
    let outcomes = deliver(&worker, &events).await;
    assert_eq!(outcomes[0], Ok((1, false)));
    assert_eq!((&outcomes[2], &outcomes[4]), (&Ok((1, true)), &Ok((1, true))));
    assert_eq!(outcomes[1], failed("no", 1, false));
    assert!(!is_acknowledged(&outcomes[3]), "{:?}", outcomes[3]);
    // The second delivery was no second attempt; the next one is, and both are parked then.
    let outcomes = deliver(&worker, &[broken.clone(), broken]).await;
    assert_eq!(outcomes, [failed("no", 2, true), refused(ConsumeError::Parked(ParkedReason::Failed))]);
    assert_eq!(worker.effects(), 1);
}

async fn an_id_twice_in_a_batch_with_two_payloads_is_parked(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let outcomes = deliver(&worker, &[event("evt_1"), Event::new("evt_1", "another payload"), event("evt_1")]).await;
    assert_eq!(outcomes, [Ok((1, false)), refused(ConsumeError::Parked(ParkedReason::KeyReused)), Ok((1, true))]);
    assert_eq!(worker.parked_one().await.payload(), Some(Event::new("", "another payload").payload()));
}

async fn a_batch_asks_for_all_claims_at_once(backend: Backend) {
    let store = Watched::new(backend.connect().await);
    let consumer = Idempotency::builder(store.clone()).shared().build().consumer(POLICY);
    let events: Vec<_> = (0..100).map(|number| event(&format!("evt_{number}"))).collect();
    for duplicate in [false, true] {
        let results = consumer.process_many(events.clone(), |_, _| async { Ok::<_, Broke>(7) }).await;
        assert!(results.iter().all(|result| result.as_ref().is_ok_and(|done| done.duplicate == duplicate)));
    }
    let steps = store.steps();
    assert_eq!((steps.claims, steps.batches, steps.completions), (200, 2, 100));
}

async fn a_batch_runs_so_many_handlers_beside_each_other(backend: Backend) {
    let consumer = Worker::start(&backend, POLICY).await.consumer.at_once(4);
    let (gate, room) = (Gate::new(), Arc::new(Semaphore::new(4)));
    let events: Vec<_> = (0..12).map(|number| event(&format!("evt_{number}"))).collect();
    let (at_gate, taken) = (gate.clone(), room.clone());
    let running = tokio::spawn(async move {
        let handler = move |_, _| {
            let (gate, room) = (at_gate.clone(), taken.clone());
            async move {
                // A fifth one finds no room.
                let _place = room.try_acquire().map_err(|_| Broke("too many".to_owned()))?;
                gate.pass().await;
                Ok::<_, Broke>(7)
            }
        };
        consumer.process_many(events, handler).await
    });
    gate.reached_by(4).await;
    assert_eq!(room.available_permits(), 0);
    gate.open();
    let results = running.await.expect("no panic");
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|done| !done.duplicate)), "{results:?}");
}

async fn a_batch_waits_for_an_event_of_another(backend: Backend) {
    let worker = Worker::start(&backend, PATIENT).await;
    let gate = Gate::new();
    let (consumer, at_gate, effect) = (worker.consumer.clone(), gate.clone(), worker.clone());
    let first = tokio::spawn(async move {
        let done = consumer.process(event("evt_1"), move |_| async move {
            at_gate.pass().await;
            Ok(effect.effect())
        });
        outcome(done.await)
    });
    gate.reached().await;
    let impatient = deliver(&worker.other(POLICY), &[event("evt_1"), event("evt_2")]).await;
    assert!(!is_acknowledged(&impatient[0]) && is_acknowledged(&impatient[1]), "{impatient:?}");
    let waiting = tokio::spawn(async move { deliver(&worker, &[event("evt_3"), event("evt_1")]).await });
    gate.open();
    assert_eq!(first.await.expect("no panic").map(|(_, duplicate)| duplicate), Ok(false));
    let waited = waiting.await.expect("no panic");
    assert!(matches!(waited[..], [Ok((_, false)), Ok((_, true))]), "{waited:?}");
}

async fn batches_at_once_run_each_event_once(backend: Backend) {
    let worker = Worker::start(&backend, PATIENT).await;
    let other = worker.replica(&backend, PATIENT).await;
    let events: Vec<_> = (0..50).map(|number| event(&format!("evt_{number}"))).collect();
    let deliveries = (0..6).map(|at| {
        let (worker, mut events) = (if at % 2 == 0 { worker.clone() } else { other.clone() }, events.clone());
        if at > 3 {
            events.reverse();
        }
        tokio::spawn(async move { deliver(&worker, &events).await })
    });
    let outcomes = futures_util::future::join_all(deliveries).await;
    let outcomes: Vec<_> = outcomes.into_iter().flat_map(|outcomes| outcomes.expect("no panic")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok((_, false)))).count(), 50);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok((_, true)))).count(), 250);
    assert_eq!(worker.effects(), 50);
}

async fn a_batch_that_is_dropped_runs_to_its_end(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let (gate, runs) = (Gate::new(), Runs::default());
    let (at_gate, counted) = (gate.clone(), runs.clone());
    let events: Vec<_> = (0..5).map(|number| event(&format!("evt_{number}"))).collect();
    let consumer = worker.consumer.clone().at_once(2);
    let mut batch = Box::pin(consumer.process_many(events.clone(), move |_, _| {
        let (gate, runs) = (at_gate.clone(), counted.clone());
        async move {
            runs.begin();
            gate.pass().await;
            runs.end();
            Ok::<_, Broke>(7)
        }
    }));
    tokio::select! {
        done = &mut batch => panic!("{done:?}"),
        () = gate.reached_by(2) => {}
    }
    drop(batch);
    gate.open();
    assert!(worker.runtime.drain(Duration::from_secs(30)).await.finished);
    assert_eq!((runs.begun(), runs.ended()), (5, 5));
    assert_eq!(deliver(&worker, &events).await, [const { Ok((7, true)) }; 5]);
}

async fn an_event_of_a_batch_keeps_its_lease_while_it_waits_for_its_turn(backend: Backend) {
    let policy = Policy::new("ship").lease(Duration::from_secs(1)).validate_for_events();
    let store = Watched::new(backend.connect().await);
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer: Consumer = runtime.consumer(policy).at_once(1);
    let gate = Gate::new();
    let at_gate = gate.clone();
    let running = tokio::spawn(async move {
        let handler = move |_, _| {
            let gate = at_gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, Broke>(7)
            }
        };
        consumer.process_many(vec![event("evt_1"), event("evt_2")], handler).await
    });
    gate.reached().await;
    // Both leases, twice.
    store.until("renewals", |steps| steps.renewals >= 4).await;
    let other = Worker::start(&backend, policy).await;
    assert!(matches!(
        other.deliver(&event("evt_2")).await,
        Err(Trouble::Told(idem_runtime::consumer::ProcessError::Refused(ConsumeError::InFlight { .. })))
    ));
    gate.open();
    assert!(running.await.expect("no panic").iter().all(Result::is_ok));
    assert_eq!((other.effects(), runtime.metrics().stale_owners), (0, 0));
}

async fn an_empty_batch_is_nothing(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    assert_eq!(deliver(&worker, &[]).await, []);
    assert_eq!(backend.records().await, 0);
}
