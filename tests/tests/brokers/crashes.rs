//! Workers that vanish.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use idem_runtime::{Policy, consumer::Event};
use tests::gate::Gate;

use crate::bus::{Bus, Options, POLICY, consumer, on_both_brokers};

on_both_brokers!(
    a_worker_that_dies_between_effect_and_acknowledgement_doubles_nothing,
    what_a_dead_worker_held_is_taken_over,
);

const SILENCE: Duration = Duration::from_millis(300);

async fn a_worker_that_dies_between_effect_and_acknowledgement_doubles_nothing(bus: Bus) {
    let options = Options { silence: SILENCE, ..Options::default() };
    for number in 0..5 {
        bus.publish(Some(&format!("e{number}")), "{}").await;
    }
    let (consumer, effects) = (consumer(POLICY), Arc::new(AtomicUsize::new(0)));
    let process = {
        let effects = effects.clone();
        move |event: Event| {
            let (consumer, effects) = (consumer.clone(), effects.clone());
            async move {
                consumer
                    .process(event, move |_| async move {
                        effects.fetch_add(1, SeqCst);
                        Ok::<_, String>(7)
                    })
                    .await
            }
        }
    };
    let done = Gate::new();
    let first = bus.worker("first", options).await.run_each({
        let (process, done) = (process.clone(), done.clone());
        move |event| {
            let (processing, done) = (process(event), done.clone());
            async move {
                let outcome = processing.await;
                // It took effect, and the broker is never told.
                done.pass().await;
                outcome
            }
        }
    });
    done.reached_by(5).await;
    assert_eq!(first.worker.metrics().acknowledged, 0);
    first.abort();

    let second = bus.worker("second", options).await.run_each(process);
    bus.settled().await;
    assert_eq!(effects.load(SeqCst), 5);
    let metrics = second.worker.metrics();
    assert_eq!((metrics.delivered, metrics.redelivered, metrics.duplicates), (5, 5, 5));
    second.end().await;
}

async fn what_a_dead_worker_held_is_taken_over(bus: Bus) {
    const SHORT: Policy = Policy::new("brokers").lease(Duration::from_millis(300)).validate_for_events();
    let options = Options { silence: SILENCE, ..Options::default() };
    for number in 0..5 {
        bus.publish(Some(&format!("e{number}")), "{}").await;
    }
    let consumer = consumer(SHORT);
    let begun = Gate::new();
    // All that a process is, so that it can be ended as one: a consumer's handler outlives the worker that began it.
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = {
        let _inside = process.enter();
        process.spawn({
            let (worker, consumer, begun) = (bus.worker("first", options).await, consumer.clone(), begun.clone());
            async move {
                let running = worker.run(&consumer, move |_, _| {
                    let begun = begun.clone();
                    async move {
                        begun.pass().await;
                        Ok::<_, String>(7)
                    }
                });
                std::future::pending::<()>().await;
                drop(running);
            }
        })
    };
    begun.reached_by(5).await;
    process.shutdown_background();
    assert!(first.await.is_err());

    let attempts = Arc::new(AtomicUsize::new(0));
    let second = bus.worker("second", options).await.run(&consumer, {
        let attempts = attempts.clone();
        move |_, attempt| {
            attempts.fetch_add(attempt.number() as usize, SeqCst);
            async { Ok::<_, String>(7) }
        }
    });
    bus.settled().await;
    // Each is the second attempt of its event.
    assert_eq!(attempts.load(SeqCst), 10);
    assert_eq!(second.worker.metrics().acknowledged, 5);
    second.end().await;
}
