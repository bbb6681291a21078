//! Events that fail, have no id, do not decode, or are not what they were.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use idem_runtime::consumer::{BrokerErrorKind, ParkedReason, ProcessError, Redriven};
use serde::Deserialize as _;
use tests::servers::eventually_async;

use crate::bus::{Bus, Options, PATIENCE, POLICY, consumer, on_both_brokers};

on_both_brokers!(
    an_event_that_fails_is_parked_listed_and_redriven,
    what_has_no_id_or_does_not_decode_is_parked_at_once,
    an_event_that_panics_as_it_is_decoded_is_parked_and_its_neighbours_run,
    an_id_that_is_used_again_with_another_payload_is_parked,
    a_parked_event_leaves_a_dead_letter,
    what_a_handler_says_of_a_parked_event_leaves_a_dead_letter,
    dead_letters_that_would_come_back_are_refused_at_the_start,
    a_dead_letter_that_cannot_be_written_holds_up_nothing_else,
);

async fn an_event_that_fails_is_parked_listed_and_redriven(bus: Bus) {
    bus.publish(Some("e"), r#"{"order":7}"#).await;
    let (consumer, mended, runs) = (consumer(POLICY), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let running = bus.worker("one", Options::default()).await.run(&consumer, {
        let (mended, runs) = (mended.clone(), runs.clone());
        move |_, attempt| {
            runs.fetch_add(1, SeqCst);
            let mended = mended.load(SeqCst);
            async move { if mended { Ok(7) } else { Err(format!("out of stock, attempt {}", attempt.number())) } }
        }
    });
    bus.settled().await;

    assert_eq!(runs.load(SeqCst), 3);
    let parked = consumer.parked(10).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].reason(), parked[0].attempts()), (ParkedReason::Failed, 3));
    assert_eq!(parked[0].error(), Some("out of stock, attempt 3"));
    let metrics = running.worker.metrics();
    assert_eq!((metrics.retried, metrics.redelivered, metrics.parked, metrics.acknowledged), (2, 2, 1, 1));

    mended.store(true, SeqCst);
    let redriven = running.worker.redrive(&consumer, &parked[0]).await;
    assert!(matches!(&redriven, Redriven::Deliver(event) if event.id() == Some("e")), "{redriven:?}");
    bus.settled().await;
    assert_eq!(runs.load(SeqCst), 4);
    assert_eq!(consumer.parked(10).await.unwrap().len(), 0);
    assert_eq!(running.worker.redrive(&consumer, &parked[0]).await, Redriven::NotParked);
    running.end().await;
}

async fn what_has_no_id_or_does_not_decode_is_parked_at_once(bus: Bus) {
    bus.publish(None, "{}").await;
    bus.publish(Some("cut"), r#"{"order":"#).await;
    bus.publish(Some("whole"), r#"{"order":7}"#).await;
    let (consumer, runs) = (consumer(POLICY), Arc::new(AtomicUsize::new(0)));
    let running = bus.worker("one", Options::default()).await.run_json(&consumer, {
        let runs = runs.clone();
        move |order: serde_json::Value, _| {
            assert_eq!(order["order"], 7);
            runs.fetch_add(1, SeqCst);
            async { Ok(7) }
        }
    });
    bus.settled().await;

    assert_eq!(runs.load(SeqCst), 1);
    let mut reasons: Vec<_> = consumer.parked(10).await.unwrap().iter().map(|parked| parked.reason()).collect();
    reasons.sort_by_key(|reason| *reason == ParkedReason::Undecodable);
    assert_eq!(reasons, [ParkedReason::NoId, ParkedReason::Undecodable]);
    let metrics = running.worker.metrics();
    assert_eq!((metrics.delivered, metrics.parked, metrics.acknowledged), (3, 2, 3));
    running.end().await;
}

/// Code of the user's that panics on some bytes.
#[derive(serde::Deserialize)]
struct Picky {
    #[serde(deserialize_with = "at_most_seven")]
    order: u64,
}

fn at_most_seven<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let order = u64::deserialize(deserializer)?;
    assert!(order <= 7, "as it should");
    Ok(order)
}

async fn an_event_that_panics_as_it_is_decoded_is_parked_and_its_neighbours_run(bus: Bus) {
    for (id, order) in [("a", 6), ("bad", 8), ("b", 7)] {
        bus.publish(Some(id), &format!(r#"{{"order":{order}}}"#)).await;
    }
    let (consumer, runs) = (consumer(POLICY), Arc::new(AtomicUsize::new(0)));
    let running = bus.worker("one", Options::default()).await.run_json(&consumer, {
        let runs = runs.clone();
        move |picky: Picky, _| {
            runs.fetch_add(usize::try_from(picky.order).unwrap(), SeqCst);
            async { Ok(7) }
        }
    });
    bus.settled().await;
    assert_eq!(runs.load(SeqCst), 13);
    let parked = consumer.parked(10).await.unwrap();
    assert_eq!((parked.len(), parked[0].id(), parked[0].reason()), (1, Some("bad"), ParkedReason::Undecodable));
    running.end().await;
}

async fn an_id_that_is_used_again_with_another_payload_is_parked(bus: Bus) {
    bus.publish(Some("e"), r#"{"order":7}"#).await;
    let (consumer, runs) = (consumer(POLICY), Arc::new(AtomicUsize::new(0)));
    let running = bus.worker("one", Options::default()).await.run(&consumer, {
        let runs = runs.clone();
        move |_, _| {
            runs.fetch_add(1, SeqCst);
            async { Ok::<_, String>(7) }
        }
    });
    bus.settled().await;
    bus.publish(Some("e"), r#"{"order":8}"#).await;
    bus.settled().await;

    assert_eq!(runs.load(SeqCst), 1);
    let parked = consumer.parked(10).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].reason(), ParkedReason::KeyReused);
    assert_eq!(parked[0].payload().map(|payload| &payload[..]), Some(&br#"{"order":8}"#[..]));

    // An operator who knows that it is another event lets it run beside the first.
    assert!(matches!(running.worker.redrive(&consumer, &parked[0]).await, Redriven::Deliver(_)));
    bus.settled().await;
    assert_eq!(runs.load(SeqCst), 2);
    running.end().await;
}

async fn a_parked_event_leaves_a_dead_letter(bus: Bus) {
    bus.dead_letter_box("dead").await;
    bus.publish(None, "lost").await;
    let options = Options { dead_letters: Some("dead"), ..Options::default() };
    let running = bus.worker("one", options).await.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.settled().await;
    assert_eq!(bus.dead_letters("dead").await, [("lost".to_owned(), ParkedReason::NoId.to_string())]);
    running.end().await;
}

/// A handler that asks a consumer itself, as those under `#[idempotent_consumer]` are asked.
async fn what_a_handler_says_of_a_parked_event_leaves_a_dead_letter(bus: Bus) {
    bus.dead_letter_box("dead").await;
    bus.publish(None, "lost").await;
    let consumer = consumer(POLICY);
    let worker = bus.worker("one", Options { dead_letters: Some("dead"), ..Options::default() }).await;
    let running = worker.run_each(move |event| {
        let consumer = consumer.clone();
        async move {
            match consumer.process(event, |_| async { Ok::<_, String>(7) }).await {
                Err(ProcessError::Refused(error)) => Err(error),
                done => Ok(done.is_ok()),
            }
        }
    });
    bus.settled().await;
    assert_eq!(bus.dead_letters("dead").await, [("lost".to_owned(), ParkedReason::NoId.to_string())]);
    assert_eq!(worker.metrics().parked, 1);
    running.end().await;
}

/// Each letter would be parked again, and leave a letter.
async fn dead_letters_that_would_come_back_are_refused_at_the_start(bus: Bus) {
    let worker = bus.worker("one", Options { dead_letters: Some("events"), ..Options::default() }).await;
    let running = worker.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    let error = running.refused().await;
    assert_eq!(error.kind(), BrokerErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("`dead_letters`"), "{error}");
}

async fn a_dead_letter_that_cannot_be_written_holds_up_nothing_else(bus: Bus) {
    bus.dead_letter_box("letters").await;
    let worker = bus.worker("one", Options { dead_letters: Some("letters"), ..Options::default() }).await;
    let running = worker.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.publish(Some("first"), "{}").await;
    bus.settled().await;
    bus.lose_dead_letter_box("letters").await;
    bus.publish(None, "{}").await;
    for at in 0..3 {
        bus.publish(Some(&format!("e-{at}")), "{}").await;
    }
    eventually_async("all but the parked one are acknowledged", PATIENCE, async || {
        (bus.open().await == Some(1)).then_some(())
    })
    .await;
    bus.find_dead_letter_box("letters").await;
    bus.settled().await;
    assert_eq!(bus.dead_letters("letters").await.len(), 1);
    running.end().await;
}
