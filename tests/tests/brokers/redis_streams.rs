//! What holds for Redis Streams alone.

use std::time::Duration;

use idem_runtime::consumer::{BrokerErrorKind, redis_streams::Worker};
use tests::{
    gate::Gate,
    servers::{RedisServer, eventually_async},
};

use crate::bus::{Bus, Options, PATIENCE, POLICY, consumer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_no_stream_is_refused_at_the_start() {
    let server = tokio::task::spawn_blocking(RedisServer::start).await.unwrap();
    server.run::<()>(&["SET", "events", "x"]);
    let worker = Worker::builder(redis::Client::open(server.url()).unwrap(), "events").build();
    let handler = |_, _| async { Ok::<_, String>(7) };
    let error = worker.run_until(&consumer(POLICY), handler, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Misconfigured, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_not_told() {
    let server = tokio::task::spawn_blocking(|| RedisServer::on(tests::servers::free_port(), &[], Some("right")));
    let server = server.await.unwrap();
    let url = format!("redis://:s3cret@127.0.0.1:{}", server.port());
    let worker = Worker::builder(redis::Client::open(url).unwrap(), "events").build();
    let handler = |_, _| async { Ok::<_, String>(7) };
    let error = worker.run_until(&consumer(POLICY), handler, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Misconfigured, "{error}");
    assert!(!format!("{error} {error:?} {worker:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_the_server_forgot_is_made_again() {
    let bus = Bus::redis().await;
    let worker = bus.worker("one", Options::default()).await;
    let running = worker.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.publish(Some("before"), "{}").await;
    eventually_async("the first event", PATIENCE, async || (worker.metrics().acknowledged == 1).then_some(())).await;
    let Bus::Redis { server } = &bus else { unreachable!() };
    server.run::<()>(&["FLUSHALL"]);
    bus.publish(Some("after"), "{}").await;
    eventually_async("the second event", PATIENCE, async || (worker.metrics().acknowledged == 2).then_some(())).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_event_comes_again_when_its_time_has_come_and_not_before() {
    let bus = Bus::redis().await;
    bus.publish(Some("e"), "{}").await;
    let (sender, mut attempts) = tokio::sync::mpsc::unbounded_channel();
    let worker = bus.worker("one", Options::default()).await;
    let running = worker.run(&consumer(POLICY), move |_, attempt| {
        sender.send(tokio::time::Instant::now()).unwrap();
        async move { if attempt.number() < 3 { Err("not yet") } else { Ok(7) } }
    });
    bus.settled().await;
    let mut times = Vec::new();
    while let Ok(time) = attempts.try_recv() {
        times.push(time);
    }
    // A tenth of a second, then two; the entry must be idle for twenty seconds to be taken without that.
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 2);
    assert!(pauses[0] >= Duration::from_millis(95) && pauses[0] < Duration::from_secs(5), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(195) && pauses[1] < Duration::from_secs(5), "{pauses:?}");
    running.end().await;
}

/// A server without memory refuses a letter and takes an acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_acknowledged_before_its_dead_letter_is_written() {
    let bus = Bus::redis().await;
    let Bus::Redis { server } = &bus else { unreachable!() };
    bus.publish(Some("e"), "{}").await;
    let worker = bus.worker("one", Options { dead_letters: Some("letters"), ..Options::default() }).await;
    let refused = || server.run::<String>(&["INFO", "errorstats"]).contains("errorstat_OOM");
    let gate = Gate::new();
    let running = worker.run(&consumer(POLICY.max_attempts(1)), {
        let gate = gate.clone();
        move |_, _| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Err("no")
            }
        }
    });
    gate.reached().await;
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    gate.open();
    eventually_async("the letter is refused", PATIENCE, async || refused().then_some(())).await;
    assert_eq!(bus.open().await, Some(1), "the event is still there");
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    bus.settled().await;
    assert_eq!(bus.dead_letters("letters").await.len(), 1);
    running.end().await;
}
