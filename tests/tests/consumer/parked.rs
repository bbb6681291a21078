//! Events that are not run, and what an operator makes of them.

use std::{collections::HashSet, time::Duration};

use idem_runtime::{
    FingerprintRule, Idempotency, MemoryStore, Policy,
    consumer::{ConsumeError, Event, ParkedReason, ProcessError, Redriven},
    store::{Forgotten, Resolved},
};
use tests::{backend::Backend, probe::RuntimeClock};

use crate::support::{Broke, FINANCIAL, POLICY, Trouble, Worker, event, failed, is_acknowledged, refused};

tests::on_every_store!(
    an_event_without_an_id_is_parked,
    an_event_without_an_id_runs_once_it_is_redriven,
    an_event_that_does_not_decode_is_parked,
    an_event_that_is_no_json_is_parked_where_json_is_compared,
    an_id_with_another_payload_is_parked_and_the_first_still_replays,
    an_id_with_another_payload_runs_beside_the_first_once_it_is_redriven,
    a_redriven_event_is_counted_and_parked_as_any_other,
    events_of_the_same_bad_bytes_are_parked_each,
    an_event_that_is_settled_never_runs,
    an_undecodable_event_that_is_settled_does_not_run_once_it_decodes,
    a_payload_that_is_too_large_is_not_kept,
    each_consumer_lists_its_own,
    a_list_comes_in_pages,
    an_event_that_is_forgotten_takes_effect_again,
    a_parked_event_is_not_forgotten,
    nothing_shows_an_id_a_payload_or_an_error,
);

async fn an_event_without_an_id_is_parked(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    for nameless in [Event::without_id("payload"), Event::new("", "payload"), Event::without_id("payload")] {
        let outcome = worker.deliver(&nameless).await;
        assert_eq!(outcome, refused(ConsumeError::Parked(ParkedReason::NoId)));
        assert!(is_acknowledged(&outcome));
    }
    assert_eq!(worker.effects(), 0);
    let parked = worker.parked_one().await;
    assert_eq!((parked.id(), parked.payload().map(|payload| &payload[..])), (None, Some(&b"payload"[..])));
    assert_eq!((parked.reason(), parked.error(), parked.attempts()), (ParkedReason::NoId, None, 0));
    // Another payload is another event.
    assert!(worker.deliver(&Event::without_id("other")).await.is_err());
    assert_eq!(worker.parked().await.len(), 2);
}

async fn an_event_without_an_id_runs_once_it_is_redriven(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    assert!(worker.deliver(&Event::without_id("payload")).await.is_err());
    let event = worker.redrive(ParkedReason::NoId).await;
    assert_eq!(event, Event::without_id("payload"));
    assert_eq!(worker.parked().await, []);
    assert_eq!(worker.deliver(&event).await, Ok((1, false)));
    assert_eq!(worker.replica(&backend, POLICY).await.deliver(&event).await, Ok((1, true)));
    // Under an id it is an event of that id.
    assert_eq!(worker.deliver(&event.clone().with_id("evt_1")).await, Ok((2, false)));
    assert_eq!(worker.deliver(&event.with_id("evt_1")).await, Ok((2, true)));
    assert_eq!(worker.deliver(&Event::without_id("other")).await, refused(ConsumeError::Parked(ParkedReason::NoId)));
}

async fn an_event_that_does_not_decode_is_parked(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let broken = Event::new("evt_1", &b"\xff\x00"[..]);
    for why in ["no `amount`", "still no `amount`"] {
        assert_eq!(worker.consumer.park(&broken, why).await, Ok(()));
    }
    let parked = worker.parked_one().await;
    assert_eq!((parked.id(), parked.payload().map(|payload| &payload[..])), (Some("evt_1"), Some(&b"\xff\x00"[..])));
    assert_eq!((parked.error(), parked.attempts()), (Some("no `amount`"), 0));
    assert_eq!(worker.runtime.metrics().executed, 0);

    // A decoder that still cannot read it parks it again; one that can runs it.
    let redriven = worker.redrive(ParkedReason::Undecodable).await;
    assert_eq!(redriven, broken);
    assert_eq!(worker.consumer.park(&redriven, "nor now").await, Ok(()));
    assert_eq!(worker.parked_one().await.error(), Some("nor now"));
    let redriven = worker.redrive(ParkedReason::Undecodable).await;
    assert_eq!(worker.deliver(&redriven).await, Ok((1, false)));
    assert_eq!(worker.deliver(&redriven).await, Ok((1, true)));
}

async fn an_event_that_is_no_json_is_parked_where_json_is_compared(backend: Backend) {
    for (scope, rule) in [("json", FingerprintRule::Json), ("fields", FingerprintRule::Fields(&["/a"]))] {
        let worker = Worker::start(&backend, Policy::new(scope).fingerprint(rule).validate_for_events()).await;
        for broken in ["{", r#"{"a":1,"a":2}"#] {
            let outcome = worker.deliver(&Event::new("evt_1", broken)).await;
            assert_eq!(outcome, refused(ConsumeError::Parked(ParkedReason::Undecodable)), "{scope} {broken}");
        }
        assert_eq!((worker.effects(), worker.parked().await.len()), (0, 2));
        assert_eq!(worker.deliver(&Event::new("evt_1", r#"{"a":1}"#)).await, Ok((1, false)));
    }
}

async fn an_id_with_another_payload_is_parked_and_the_first_still_replays(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = Event::new("evt_1", "another payload");
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    for _ in 0..2 {
        let outcome = worker.deliver(&other).await;
        assert_eq!(outcome, refused(ConsumeError::Parked(ParkedReason::KeyReused)));
        assert!(is_acknowledged(&outcome));
        assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
    }
    let parked = worker.parked_one().await;
    assert_eq!(
        (parked.reason(), parked.id(), parked.payload()),
        (ParkedReason::KeyReused, Some("evt_1"), Some(other.payload()))
    );

    // A third payload is a third event; so is one beside a first that failed.
    assert!(worker.deliver(&Event::new("evt_1", "a third")).await.is_err());
    assert_eq!(worker.fail(&event("evt_2"), "no").await, failed("no", 1, false));
    let reused = worker.deliver(&Event::new("evt_2", "another payload")).await;
    assert_eq!(reused, refused(ConsumeError::Parked(ParkedReason::KeyReused)));
    assert_eq!(worker.parked().await.len(), 3);
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((2, false)));
}

async fn an_id_with_another_payload_runs_beside_the_first_once_it_is_redriven(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = Event::new("evt_1", "another payload");
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, false)));
    assert!(worker.deliver(&other).await.is_err());
    assert_eq!(worker.redrive(ParkedReason::KeyReused).await, other);
    let elsewhere = worker.replica(&backend, POLICY).await;
    assert_eq!(elsewhere.deliver(&other).await, Ok((2, false)));
    assert_eq!(worker.deliver(&other).await, Ok((2, true)));
    assert_eq!(worker.deliver(&event("evt_1")).await, Ok((1, true)));
    assert!(worker.deliver(&Event::new("evt_1", "a third")).await.is_err());
    assert_eq!(worker.effects(), 2);
}

async fn a_redriven_event_is_counted_and_parked_as_any_other(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(2)).await;
    let nameless = Event::without_id("payload");
    assert!(worker.deliver(&nameless).await.is_err());
    worker.redrive(ParkedReason::NoId).await;
    assert_eq!(worker.fail(&nameless, "no").await, failed("no", 1, false));
    assert_eq!(worker.fail(&nameless, "no").await, failed("no", 2, true));
    assert_eq!(worker.deliver(&nameless).await, refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert_eq!(worker.redrive(ParkedReason::Failed).await, nameless);
    assert_eq!(worker.deliver(&nameless).await, Ok((1, false)));
}

/// A producer that writes nothing where the payload belongs: each is an event of its own.
async fn events_of_the_same_bad_bytes_are_parked_each(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    for id in ["evt_1", "evt_2", "", "evt_1"] {
        assert_eq!(worker.consumer.park(&Event::new(id, ""), "no JSON").await, Ok(()));
    }
    let mut ids: Vec<_> = worker.parked().await.iter().map(|parked| parked.id().map(str::to_owned)).collect();
    ids.sort();
    assert_eq!(ids, [None, Some("evt_1".to_owned()), Some("evt_2".to_owned())]);
}

/// Done by hand, it must not be done again by the version that can read it.
async fn an_undecodable_event_that_is_settled_does_not_run_once_it_decodes(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    for id in ["evt_1", "evt_2"] {
        assert_eq!(worker.consumer.park(&event(id), "a field it does not know").await, Ok(()));
    }
    // What ran under the id stays as it is.
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((1, false)));
    for parked in worker.parked().await {
        assert_eq!(worker.consumer.settle(&parked).await.unwrap(), Resolved::Applied);
    }
    assert_eq!(worker.deliver(&event("evt_1")).await, refused(ConsumeError::NotKept));
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((1, true)));
    assert_eq!(worker.parked().await, []);
}

async fn an_event_that_is_settled_never_runs(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(1)).await;
    let reused = Event::new("evt_2", "another payload");
    assert!(worker.fail(&event("evt_1"), "no").await.is_err());
    assert_eq!(worker.deliver(&event("evt_2")).await, Ok((1, false)));
    assert!(worker.deliver(&reused).await.is_err());
    assert!(worker.deliver(&Event::without_id("payload")).await.is_err());
    for parked in worker.parked().await {
        assert_eq!(worker.consumer.settle(&parked).await.unwrap(), Resolved::Applied);
        assert_eq!(worker.consumer.settle(&parked).await.unwrap(), Resolved::NotUnknown);
        assert_eq!(worker.consumer.redrive(&parked).await.unwrap(), Redriven::NotParked);
    }
    for settled in [event("evt_1"), reused, Event::without_id("payload")] {
        let outcome = worker.deliver(&settled).await;
        assert_eq!(outcome, refused(ConsumeError::NotKept));
        assert!(is_acknowledged(&outcome));
    }
    assert_eq!((worker.effects(), worker.parked().await.len()), (1, 0));
}

async fn an_event_that_is_forgotten_takes_effect_again(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let event = event("evt_1");
    assert_eq!(worker.consumer.forget("evt_1").await.unwrap(), Forgotten::Absent);
    assert_eq!(worker.deliver(&event).await, Ok((1, false)));
    assert_eq!(worker.deliver(&event).await, Ok((1, true)));
    for nobodys in ["evt_2", ""] {
        assert_eq!(worker.consumer.forget(nobodys).await.unwrap(), Forgotten::Absent);
    }
    let another = worker.other(Policy::new("another").validate_for_events());
    assert_eq!(another.consumer.forget("evt_1").await.unwrap(), Forgotten::Absent, "another consumer's");
    assert_ne!(another.consumer.storage_key("evt_1"), worker.consumer.storage_key("evt_1"));
    assert_eq!(worker.deliver(&event).await, Ok((1, true)));

    assert_eq!(worker.replica(&backend, POLICY).await.consumer.forget("evt_1").await.unwrap(), Forgotten::Done);
    // Another payload is as good: nothing is known of this id any more.
    assert_eq!(worker.deliver(&Event::new("evt_1", "another")).await, Ok((2, false)));
}

async fn a_parked_event_is_not_forgotten(backend: Backend) {
    let worker = Worker::start(&backend, FINANCIAL).await;
    assert!(worker.panic(&event("evt_1")).await.is_err());
    worker.parked_one().await;
    assert_eq!(worker.consumer.forget("evt_1").await.unwrap(), Forgotten::Unknown);
    worker.parked_one().await;
}

async fn a_payload_that_is_too_large_is_not_kept(backend: Backend) {
    let runtime = Idempotency::builder_shared(backend.connect().await).shared().max_answer_bytes(10).build();
    let consumer = runtime.consumer(POLICY);
    for (payload, kept) in [("0123456789", true), ("0123456789a", false)] {
        consumer.park(&Event::new("evt_1", payload), "why").await.unwrap();
        let parked = consumer.parked(10).await.unwrap().remove(0);
        assert_eq!(parked.payload().map(|bytes| &bytes[..]), kept.then_some(payload.as_bytes()));
        let redriven = consumer.redrive(&parked).await.unwrap();
        assert_eq!(redriven == Redriven::PayloadNotKept, !kept);
    }
}

async fn each_consumer_lists_its_own(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = worker.other(Policy::new("bill").validate_for_events());
    assert!(worker.deliver(&Event::without_id("payload")).await.is_err());
    assert_eq!(other.parked().await, []);
    assert!(other.deliver(&Event::without_id("payload")).await.is_err());
    let parked = other.parked_one().await;
    assert_eq!(other.consumer.settle(&parked).await.unwrap(), Resolved::Applied);
    assert_eq!((worker.parked().await.len(), other.parked().await.len()), (1, 0));
}

async fn a_list_comes_in_pages(backend: Backend) {
    let worker = Worker::start(&backend, POLICY).await;
    let other = worker.other(Policy::new("bill").validate_for_events());
    for number in 0..130 {
        assert!(worker.deliver(&Event::without_id(number.to_string())).await.is_err());
        assert!(other.deliver(&Event::without_id(number.to_string())).await.is_err());
    }
    let mut seen = HashSet::new();
    let mut page = worker.consumer.parked(40).await.unwrap();
    let mut pages = Vec::new();
    while let Some(last) = page.last() {
        pages.push(page.len());
        seen.extend(page.iter().map(|parked| parked.payload().unwrap().clone()));
        page = worker.consumer.parked_after(last, 40).await.unwrap();
    }
    assert_eq!((pages, seen.len()), (vec![40, 40, 40, 10], 130));
    assert_eq!(worker.consumer.parked(0).await.unwrap(), []);
}

async fn nothing_shows_an_id_a_payload_or_an_error(backend: Backend) {
    let worker = Worker::start(&backend, POLICY.max_attempts(1)).await;
    let event = Event::new("SECRET-id", "SECRET-payload");
    assert!(worker.fail(&event, "SECRET-error").await.is_err());
    let parked = worker.parked_one().await;
    let Err(Trouble::Told(reused)) = worker.deliver(&event).await else { panic!("it is parked") };
    let redriven = worker.consumer.redrive(&parked).await.unwrap();
    let shown = format!("{event:?} {parked:?} {redriven:?} {:?} {reused} {reused:?}", worker.consumer);
    assert!(!shown.contains("SECRET") && !shown.contains("83, 69, 67"), "{shown}");
}

/// Whoever settles it may have been built with the default policy: what the consumer that parked it promised still holds.
#[tokio::test(start_paused = true)]
async fn a_settled_event_is_remembered_as_long_as_its_consumer_remembers() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let runtime = Idempotency::builder(MemoryStore::with_clock(RuntimeClock::new())).shared().build();
    let consumer = runtime.consumer(POLICY.ttl(14 * DAY).max_attempts(1));
    let run = async || consumer.process(event("evt_1"), |_| async { Err::<usize, _>(Broke("no".to_owned())) }).await;
    assert!(matches!(run().await, Err(ProcessError::Failed { parked: true, .. })));
    let operator = runtime.consumer(Policy::new("ship"));
    let parked = operator.parked(10).await.unwrap();
    assert_eq!(operator.settle(&parked[0]).await.unwrap(), Resolved::Applied);
    tokio::time::sleep(13 * DAY).await;
    assert_eq!(run().await, Err(ProcessError::Refused(ConsumeError::NotKept)));
    tokio::time::sleep(2 * DAY).await;
    assert!(matches!(run().await, Err(ProcessError::Failed { .. })));
}
