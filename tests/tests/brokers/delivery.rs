//! What comes once, twice, or all at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use idem_runtime::Policy;
use tests::gate::Gate;

use crate::bus::{Bus, Options, POLICY, consumer, on_both_brokers, runtime};

on_both_brokers!(
    an_event_published_twice_takes_effect_once,
    two_consumers_each_run_an_event_once,
    no_more_run_at_once_than_may,
    a_long_handler_keeps_its_event,
    a_worker_that_stops_finishes_what_it_began,
    a_worker_that_may_not_wait_leaves_the_rest,
);

async fn an_event_published_twice_takes_effect_once(bus: Bus) {
    for number in 0..50 {
        for _ in 0..2 {
            bus.publish(Some(&format!("e{number}")), "{}").await;
        }
    }
    let (consumer, effects) = (consumer(POLICY), Arc::new(AtomicUsize::new(0)));
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let effects = effects.clone();
        workers.push(bus.worker(name, Options::default()).await.run(&consumer, move |_, _| {
            effects.fetch_add(1, SeqCst);
            async { Ok::<_, String>(7) }
        }));
    }
    bus.settled().await;

    assert_eq!(effects.load(SeqCst), 50);
    let metrics: Vec<_> = workers.iter().map(|running| running.worker.metrics()).collect();
    let sum = |of: fn(&idem_runtime::consumer::WorkerMetrics) -> u64| metrics.iter().map(of).sum::<u64>();
    assert_eq!(sum(|metrics| metrics.acknowledged), 100);
    assert_eq!(sum(|metrics| metrics.duplicates), 50);
    for running in workers {
        let drained = running.stop().await;
        assert!(drained.finished, "{drained:?}");
    }
}

async fn two_consumers_each_run_an_event_once(bus: Bus) {
    const OTHER: Policy = Policy::new("others").validate_for_events();
    let runs = Arc::new(AtomicUsize::new(0));
    let shared = runtime();
    for policy in [POLICY, OTHER] {
        bus.publish(Some("e"), "{}").await;
        bus.publish(Some("e"), "{}").await;
        // The group is one; who the consumer is says its policy.
        let consumer = shared.consumer(policy);
        let runs = runs.clone();
        let running = bus.worker("one", Options::default()).await.run(&consumer, move |_, _| {
            runs.fetch_add(1, SeqCst);
            async { Ok::<_, String>(7) }
        });
        bus.settled().await;
        running.end().await;
    }
    assert_eq!(runs.load(SeqCst), 2);
}

async fn no_more_run_at_once_than_may(bus: Bus) {
    const MAY: usize = 3;
    for number in 0..30 {
        bus.publish(Some(&format!("e{number}")), "{}").await;
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Gate::new();
    let options = Options { concurrency: MAY, batch: 2, ..Options::default() };
    let (consumer, worker) = (consumer(POLICY), bus.worker("one", options).await);
    let running = worker.run(&consumer, {
        let (most, gate) = (most.clone(), gate.clone());
        move |_, _| {
            let (now, most, gate) = (now.clone(), most.clone(), gate.clone());
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                gate.pass().await;
                tokio::task::yield_now().await;
                now.fetch_sub(1, SeqCst);
                Ok::<_, String>(7)
            }
        }
    });
    gate.reached_by(MAY).await;
    // What was not begun was not fetched either.
    assert_eq!(worker.metrics().delivered, MAY as u64);
    gate.open();
    bus.settled().await;
    assert_eq!(most.load(SeqCst), MAY);
    running.end().await;
}

async fn a_long_handler_keeps_its_event(bus: Bus) {
    const SILENCE: Duration = Duration::from_millis(400);
    let options = Options { silence: SILENCE, ..Options::default() };
    bus.publish(Some("long"), "{}").await;
    let (consumer, gate) = (consumer(POLICY), Gate::new());
    let long = bus.worker("long", options).await.run(&consumer, {
        let gate = gate.clone();
        move |_, _| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, String>(7)
            }
        }
    });
    gate.reached().await;
    let other = bus.worker("other", options).await.run(&consumer, |_, _| async { Ok::<_, String>(8) });
    // Time enough to take it over several times, if it were silent.
    tokio::time::sleep(SILENCE * 5).await;
    assert_eq!(other.worker.metrics().delivered, 0);
    gate.open();
    bus.settled().await;
    assert_eq!(long.worker.metrics().acknowledged, 1);
    long.end().await;
    other.end().await;
}

async fn a_worker_that_stops_finishes_what_it_began(bus: Bus) {
    for number in 0..10 {
        bus.publish(Some(&format!("e{number}")), "{}").await;
    }
    let (consumer, gate) = (consumer(POLICY), Gate::new());
    let options = Options { concurrency: 4, batch: 4, ..Options::default() };
    let worker = bus.worker("one", options).await;
    let running = worker.run(&consumer, {
        let gate = gate.clone();
        move |_, _| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, String>(7)
            }
        }
    });
    gate.reached_by(4).await;
    let (drained, ()) = tokio::join!(running.stop(), async {
        // It is told to stop first, and waits.
        tokio::task::yield_now().await;
        gate.open();
    });
    assert!(drained.finished && drained.left == 0, "{drained:?}");
    let metrics = worker.metrics();
    assert!(metrics.acknowledged >= 4 && metrics.acknowledged < 10, "{metrics:?}");
    assert_eq!(bus.open().await, Some(10 - metrics.acknowledged));
}

async fn a_worker_that_may_not_wait_leaves_the_rest(bus: Bus) {
    for number in 0..3 {
        bus.publish(Some(&format!("stuck {number}")), "{}").await;
    }
    let (consumer, gate) = (consumer(POLICY), Gate::new());
    let options = Options { drain: Duration::from_millis(50), ..Options::default() };
    let running = bus.worker("one", options).await.run(&consumer, {
        let gate = gate.clone();
        move |_, _| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, String>(7)
            }
        }
    });
    gate.reached_by(3).await;
    let drained = running.stop().await;
    assert!(!drained.finished && drained.left == 3, "{drained:?}");
    assert_eq!(bus.open().await, Some(3));
}
