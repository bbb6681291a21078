//! Handlers that fail: undone, counted, and parked in the end.

use idem_runtime::{
    OnAbandoned, Policy,
    consumer::{ConsumeError, Delivery, ParkedReason, ProcessError, Redriven},
};
use tests::backend::Backend;

use crate::support::{Broke, FINANCIAL, POLICY, Worker, event, failed, is_acknowledged, outcome, panicked, refused};

tests::on_every_store!(
    an_error_leaves_the_event_undone,
    attempts_are_counted_over_workers_and_parked_in_the_end,
    one_attempt_is_enough_to_park,
    panics_count_as_errors_do,
    an_error_of_a_financial_handler_is_definite,
    a_panic_of_a_financial_handler_is_parked,
    a_refused_panic_is_parked,
    an_error_that_leaves_open_what_happened_is_parked,
    a_value_of_another_type_than_is_kept_is_acknowledged,
    a_long_error_is_cut_between_characters,
    a_value_or_an_error_that_panics_as_it_is_written_is_counted,
);

async fn an_error_leaves_the_event_undone(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let outcome = worker.fail(&event("evt_1"), "no").await;
    assert_eq!(outcome, failed("no", 1, false));
    assert!(matches!(outcome.map_err(|error| error.delivery()), Err(Delivery::Retry { .. })));
    assert_eq!(worker.parked().await, []);
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
}

async fn attempts_are_counted_over_workers_and_parked_in_the_end(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    for attempt in 1..=5 {
        let other = worker.replica(&backend, POLICY).await;
        let outcome = other.fail(&event("evt_1"), &format!("error {attempt}")).await;
        assert_eq!(outcome, failed(&format!("error {attempt}"), attempt, attempt == 5));
        assert_eq!(is_acknowledged(&outcome), attempt == 5);
    }
    // A broker that lost the acknowledgement delivers it again.
    let again = worker.deliver(&event("evt_1")).await;
    assert_eq!(again, refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert!(is_acknowledged(&again));
    assert_eq!(worker.effects(), 0);

    let parked = worker.parked_one().await;
    assert_eq!(parked.reason(), ParkedReason::Failed);
    assert_eq!((parked.id(), parked.payload()), (Some("evt_1"), Some(event("evt_1").payload())));
    assert_eq!((parked.error(), parked.attempts()), (Some("error 5"), 5));

    // Redriven it has all its attempts.
    assert_eq!(worker.redrive(ParkedReason::Failed).await, event("evt_1"));
    assert_eq!(worker.parked().await, []);
    assert_eq!(worker.consumer.redrive(&parked).await.unwrap(), Redriven::NotParked);
    assert_eq!(worker.fail(&event("evt_1"), "again").await, failed("again", 1, false));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
}

async fn one_attempt_is_enough_to_park(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(1)).await;
    assert_eq!(worker.fail(&event("evt_1"), "no").await, failed("no", 1, true));
    assert_eq!(worker.parked_one().await.attempts(), 1);
}

async fn panics_count_as_errors_do(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(3)).await;
    assert_eq!(worker.panic(&event("evt_1")).await, panicked(1));
    assert_eq!(worker.fail(&event("evt_1"), "no").await, failed("no", 2, false));
    assert_eq!(worker.panic(&event("evt_1")).await, refused(ConsumeError::Parked(ParkedReason::Failed)));
    let parked = worker.parked_one().await;
    assert_eq!((parked.attempts(), parked.error()), (3, Some("the handler panicked")));
    worker.redrive(ParkedReason::Failed).await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
}

async fn an_error_of_a_financial_handler_is_definite(backend: Backend) {
    let worker = Worker::start(&backend, FINANCIAL.max_attempts(2)).await;
    assert_eq!(worker.fail(&event("evt_1"), "declined").await, failed("declined", 1, false));
    assert_eq!(worker.fail(&event("evt_1"), "declined").await, failed("declined", 2, true));
    assert_eq!(worker.parked_one().await.reason(), ParkedReason::Failed);
    assert_eq!(worker.fail(&event("evt_2"), "declined").await, failed("declined", 1, false));
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((1, false)));
}

async fn a_panic_of_a_financial_handler_is_parked(backend: Backend) {
    a_panic_is_parked(&Worker::start(&backend, FINANCIAL).await).await;
}

async fn a_refused_panic_is_parked(backend: Backend) {
    let policy = Policy::new("ship").on_abandoned(OnAbandoned::Refuse).validate_for_events();
    a_panic_is_parked(&Worker::start(&backend, policy).await).await;
}

async fn a_panic_is_parked(worker: &Worker) {
    let unknown = refused(ConsumeError::Parked(ParkedReason::OutcomeUnknown));
    assert_eq!(worker.panic(&event("evt_1")).await, unknown);
    assert_eq!(worker.deliver(&event("evt_1")).await, unknown);
    assert!(is_acknowledged(&unknown));
    assert_eq!(worker.effects(), 0);
    let parked = worker.parked_one().await;
    assert_eq!((parked.attempts(), parked.error()), (1, Some("the handler panicked")));
    worker.redrive(ParkedReason::OutcomeUnknown).await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
}

async fn an_error_that_leaves_open_what_happened_is_parked(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let done = worker.consumer.process(event("evt_1"), |attempt| async move {
        attempt.mark_unknown();
        Err::<usize, _>(Broke("the connection broke behind the charge".to_owned()))
    });
    let unknown = refused(ConsumeError::Parked(ParkedReason::OutcomeUnknown));
    assert_eq!(outcome(done.await), unknown);
    assert_eq!(worker.deliver(&event("evt_1")).await, unknown);
    let parked = worker.parked_one().await;
    assert_eq!((parked.attempts(), parked.error()), (1, Some("the connection broke behind the charge")));
    worker.redrive(ParkedReason::OutcomeUnknown).await;
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
}

/// The next version of a consumer returns something else; the event must not come again for that.
async fn a_value_of_another_type_than_is_kept_is_acknowledged(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let text = worker.consumer.process(event("evt_1"), |_| async { Ok::<_, Broke>("seven".to_owned()) }).await;
    assert!(text.is_ok_and(|done| done.value == "seven"));
    let number = worker.deliver(&event("evt_1")).await;
    assert_eq!(number, refused(ConsumeError::NotKept));
    assert!(is_acknowledged(&number));
    assert_eq!(worker.effects(), 0);
}

async fn a_long_error_is_cut_between_characters(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(1)).await;
    // 1024 is in the middle of the 342nd.
    assert!(worker.fail(&event("evt_1"), &"日".repeat(5000)).await.is_err());
    assert_eq!(worker.parked_one().await.error(), Some(&*"日".repeat(341)));
}

/// Whoever writes it down finds that it cannot be written.
#[derive(Debug)]
struct Unwritable;

impl serde::Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("as it should")
    }
}

impl<'de> serde::Deserialize<'de> for Unwritable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        unreachable!("it was never written")
    }
}

impl std::fmt::Display for Unwritable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("as it should")
    }
}

async fn a_value_or_an_error_that_panics_as_it_is_written_is_counted(backend: Backend) {
    for policy in [POLICY.max_attempts(2), FINANCIAL.max_attempts(2)] {
        let worker = Worker::start(&backend, policy).await;
        let deliver = |id: &str, succeeds: bool| {
            let counting = worker.clone();
            worker.consumer.process(event(id), move |_| async move {
                counting.effect();
                if succeeds { Ok(Unwritable) } else { Err(Unwritable) }
            })
        };
        let id = format!("value {policy:?}");
        assert!(deliver(&id, true).await.is_ok(), "it ran, whatever becomes of its value");
        assert!(matches!(deliver(&id, true).await, Err(ProcessError::Refused(ConsumeError::NotKept))));
        assert_eq!(worker.effects(), 1);

        let id = format!("error {policy:?}");
        for attempt in [1, 2] {
            let failed = deliver(&id, false).await;
            assert!(matches!(failed, Err(ProcessError::Failed { attempt: number, .. }) if number == attempt));
        }
        assert!(matches!(deliver(&id, false).await, Err(ProcessError::Refused(ConsumeError::Parked(_)))));
        assert_eq!(worker.effects(), 3);
        worker.redrive(ParkedReason::Failed).await;
    }
}
