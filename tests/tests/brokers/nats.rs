//! What holds for NATS JetStream alone.

use std::time::Duration;

use async_nats::jetstream;
use idem_runtime::consumer::{BrokerErrorKind, ParkedReason, RedriveError, Redriven, nats::Worker};
use tests::servers::{NatsServer, eventually_async};

use crate::bus::{Bus, Options, PATIENCE, POLICY, consumer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_there_is_refused_at_the_start() {
    let server = tokio::task::spawn_blocking(NatsServer::start).await.unwrap();
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let worker = Worker::builder(context, "events").build();
    let handler = |_, _| async { Ok::<_, String>(7) };
    let error = worker.run_until(&consumer(POLICY), handler, std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), BrokerErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("`events`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_event_passes_the_servers_own_window() {
    let bus = Bus::nats().await;
    let Bus::Nats { jetstream, .. } = &bus else { unreachable!() };
    let message = jetstream::message::PublishMessage::build().message_id("e").payload("{}".into());
    jetstream.send_publish("events", message.clone()).await.unwrap().await.unwrap();
    // The same again is dropped by the server.
    assert!(jetstream.send_publish("events", message).await.unwrap().await.unwrap().duplicate);

    let consumer = consumer(POLICY);
    let worker = Worker::builder(jetstream.clone(), "events").durable("events").build();
    let failing = |_, _| async { Err::<u32, _>("never") };
    let stop = async {
        bus.settled().await;
    };
    let _ = worker.run_until(&consumer, failing, stop).await.unwrap();
    let parked = consumer.parked(10).await.unwrap();
    assert_eq!(parked[0].reason(), ParkedReason::Failed);

    let (sender, mut ran) = tokio::sync::mpsc::unbounded_channel();
    let redriven = worker.redrive(&consumer, &parked[0]).await.unwrap();
    assert!(matches!(redriven, Redriven::Deliver(_)));
    let handler = move |event: idem_runtime::consumer::Event, _| {
        sender.send(event.id().map(str::to_owned)).unwrap();
        async { Ok::<_, String>(7) }
    };
    let stop = async {
        eventually_async("it runs", PATIENCE, async || ran.try_recv().ok()).await;
        bus.settled().await;
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), worker.run_until(&consumer, handler, stop))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bus.open().await, Some(0));
}

/// Runnable and published nowhere, it would be lost with whoever asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_published_stays_parked() {
    let server = tokio::task::spawn_blocking(NatsServer::start).await.unwrap();
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config =
        jetstream::stream::Config { name: "many".into(), subjects: vec!["many.*".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    let (worker, consumer) = (Worker::builder(context.clone(), "many"), consumer(POLICY));
    consumer.park(&idem_runtime::consumer::Event::new("e", "{}"), "why").await.unwrap();
    consumer.park(&idem_runtime::consumer::Event::new("two\nlines", "{}"), "why").await.unwrap();
    let nowhere = worker.build();
    let somewhere = Worker::builder(context, "many").publish_to("many.orders").build();
    for parked in consumer.parked(10).await.unwrap() {
        let refused = nowhere.redrive(&consumer, &parked).await;
        assert!(matches!(refused, Err(RedriveError::Unpublishable(_))), "{refused:?}");
        let redriven = somewhere.redrive(&consumer, &parked).await;
        assert_eq!(redriven.is_ok(), parked.id() == Some("e"), "{redriven:?}");
    }
    let left = consumer.parked(10).await.unwrap();
    assert_eq!((left.len(), left[0].id()), (1, Some("two\nlines")));
}

/// The server refuses a request for more, each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_that_allows_little_at_once_is_asked_for_that() {
    let bus = Bus::nats().await;
    let Bus::Nats { jetstream, .. } = &bus else { unreachable!() };
    let little = jetstream::consumer::pull::Config {
        durable_name: Some("events".to_owned()),
        ack_policy: jetstream::consumer::AckPolicy::Explicit,
        max_batch: 2,
        max_expires: Duration::from_millis(100),
        ..Default::default()
    };
    jetstream.get_stream("events").await.unwrap().create_consumer(little).await.unwrap();
    for number in 0..5 {
        bus.publish(Some(&format!("e{number}")), "{}").await;
    }
    let worker = bus.worker("one", Options::default()).await;
    let running = worker.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.settled().await;
    assert_eq!(worker.metrics().acknowledged, 5);
    running.end().await;
}

/// With its headers it is larger than what the server takes, however often it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_beyond_the_servers_largest_message_comes_without_its_payload() {
    let bus = Bus::nats().await;
    let Bus::Nats { jetstream, .. } = &bus else { unreachable!() };
    bus.dead_letter_box("dead").await;
    let largest = jetstream.client().server_info().max_payload;
    jetstream.publish("events", vec![b'x'; largest].into()).await.unwrap().await.unwrap();
    let options = Options { dead_letters: Some("dead"), ..Options::default() };
    let running = bus.worker("one", options).await.run(&consumer(POLICY), |_, _| async { Ok::<_, String>(7) });
    bus.settled().await;
    assert_eq!(bus.dead_letters("dead").await, [(String::new(), ParkedReason::NoId.to_string())]);
    let letter = jetstream.get_stream("dead").await.unwrap().get_raw_message(1).await.unwrap();
    assert_eq!(letter.headers.get("Idem-Payload-Left-Out").unwrap().as_str(), largest.to_string());
    let _ = running.stop().await;
}
