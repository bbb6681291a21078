//! Workers that vanish, before their effect or behind it.

use std::{sync::mpsc, time::Duration};

use idem_runtime::{
    Idempotency, Policy,
    consumer::{ConsumeError, Event, ParkedReason},
};
use tests::backend::Backend;

use crate::support::{Broke, POLICY, Trouble, Worker, event, failed, is_acknowledged, killed_where_it_stands, refused};

tests::on_every_store!(
    a_worker_killed_before_the_acknowledgement_has_done_its_work,
    a_worker_killed_in_the_handler_is_replaced,
    workers_killed_too_often_park_the_event,
    a_worker_killed_where_money_moves_parks_the_event,
);

/// Long enough that a busy machine does not lose it while it looks.
const LEASE: Duration = Duration::from_secs(2);
const SHORT: Policy = Policy::new("ship").lease(LEASE).validate_for_events();
const FINANCIAL: Policy = Policy::new("charge").lease(LEASE).financial().validate_for_events();

/// A worker that is killed in the middle of its handler.
async fn killed(backend: &Backend, policy: Policy, event: &Event) {
    let (backend, event) = (backend.clone(), event.clone());
    let work = move |stands: mpsc::Sender<()>| async move {
        let consumer = Idempotency::builder_shared(backend.connect().await).shared().build().consumer(policy);
        let handler = move |_| async move {
            stands.send(()).expect("a test that waits");
            std::future::pending::<Result<usize, Broke>>().await
        };
        consumer.process(event, handler).await
    };
    killed_where_it_stands(work).await;
}

/// The effect happened and was recorded; the broker was not told.
async fn a_worker_killed_before_the_acknowledgement_has_done_its_work(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let (doomed, there) = (worker.clone(), backend.clone());
    let work = move |stands: mpsc::Sender<()>| async move {
        let doomed = doomed.replica(&there, POLICY).await;
        assert_eq!(doomed.deliver(&event("evt_1")).await, Ok((1, false)));
        stands.send(()).expect("a test that waits");
        std::future::pending::<()>().await;
    };
    killed_where_it_stands(work).await;
    for worker in [&worker, &worker.replica(&backend, POLICY).await] {
        assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
    }
    assert_eq!(worker.effects(), 1);
}

async fn a_worker_killed_in_the_handler_is_replaced(backend: Backend) {
    killed(&backend, SHORT, &event("evt_1")).await;
    let worker = Worker::start(&backend, SHORT).await;
    let early = worker.deliver(&event("evt_1")).await;
    assert!(
        matches!(
            early,
            Err(Trouble::Told(idem_runtime::consumer::ProcessError::Refused(ConsumeError::InFlight { .. })))
        ),
        "{early:?}"
    );
    backend.pass(LEASE).await;
    // The attempt that vanished counts.
    assert_eq!(worker.fail(&event("evt_1"), "no").await, failed("no", 2, false));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
}

async fn workers_killed_too_often_park_the_event(backend: Backend) {
    let policy = SHORT.max_attempts(2);
    for _ in 0..2 {
        killed(&backend, policy, &event("evt_1")).await;
        backend.pass(LEASE).await;
    }
    let worker = Worker::start(&backend, policy).await;
    let outcome = worker.deliver(&event("evt_1")).await;
    assert_eq!(outcome, refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert!(is_acknowledged(&outcome));
    let parked = worker.parked_one().await;
    assert_eq!((parked.attempts(), parked.error()), (2, Some("the worker of the last attempt vanished")));
    assert_eq!((worker.effects(), worker.runtime.metrics().executed, worker.runtime.metrics().parked), (0, 0, 1));
    worker.redrive(ParkedReason::Failed).await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
}

async fn a_worker_killed_where_money_moves_parks_the_event(backend: Backend) {
    killed(&backend, FINANCIAL, &event("evt_1")).await;
    let worker = Worker::start(&backend, FINANCIAL).await;
    backend.pass(LEASE).await;
    let unknown = refused(ConsumeError::Parked(ParkedReason::OutcomeUnknown));
    assert_eq!(worker.deliver(&event("evt_1")).await, unknown);
    assert_eq!(worker.deliver(&event("evt_1")).await, unknown);
    let parked = worker.parked_one().await;
    assert_eq!((parked.id(), parked.attempts(), parked.error()), (Some("evt_1"), 1, None));
    assert_eq!(worker.effects(), 0);
    // In a batch as well.
    killed(&backend, FINANCIAL, &event("evt_2")).await;
    backend.pass(LEASE).await;
    let results = worker.consumer.process_many(vec![event("evt_2")], |_, _| async { Ok::<_, Broke>(7) }).await;
    assert!(matches!(&results[..], [Err(error)] if error.to_string().contains("may or may not")), "{results:?}");
}
