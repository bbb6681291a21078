//! Brokers that go away and come back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::bus::{Bus, Options, POLICY, consumer, on_both_brokers};

on_both_brokers!(a_broker_that_restarts_under_load_loses_and_doubles_nothing, a_worker_waits_for_a_broker_that_is_away);

async fn a_broker_that_restarts_under_load_loses_and_doubles_nothing(mut bus: Bus) {
    const EVENTS: usize = 300;
    let consumer = consumer(POLICY);
    let effects = Arc::new(Mutex::new(Vec::new()));
    let options = Options { silence: Duration::from_secs(2), ..Options::default() };
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let effects = effects.clone();
        workers.push(bus.worker(name, options).await.run(&consumer, move |event, _| {
            effects.lock().unwrap().push(event.id().unwrap_or_default().to_owned());
            async { Ok::<_, String>(7) }
        }));
    }
    for number in 0..EVENTS {
        if number == EVENTS / 3 || number == EVENTS * 2 / 3 {
            bus.restart();
        }
        let id = format!("e{number}");
        // A producer that is not told asks again: that, too, is a duplicate.
        while bus.try_publish(Some(&id), "{}").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    bus.settled().await;
    let effects = effects.lock().unwrap().clone();
    assert_eq!(effects.iter().collect::<HashSet<_>>().len(), EVENTS);
    assert_eq!(effects.len(), EVENTS);
    for running in workers {
        assert!(running.stop().await.finished);
    }
}

async fn a_worker_waits_for_a_broker_that_is_away(mut bus: Bus) {
    let worker = bus.worker("one", Options::default()).await;
    bus.publish(Some("e"), "{}").await;
    bus.kill();
    let running = worker.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.restart();
    bus.settled().await;
    assert_eq!(worker.metrics().acknowledged, 1);
    running.end().await;
}
