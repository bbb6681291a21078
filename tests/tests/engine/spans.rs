//! The span of an operation: what it says, and what is inside.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, extract::Request, routing::post};
use idem_runtime::{
    Fingerprint, Idempotency, IdempotencyLayer, OnConflict, Operation, Policy, Principal, SqliteStore, Tx,
    consumer::Event, store::StoreErrorKind,
};
use tests::{
    faulty_store::{Fault, Step},
    gate::Gate,
    probe::Runs,
    spans::Spans,
};
use tower::ServiceExt;
use tracing::{Instrument, debug_span, field::Empty};

use crate::support::*;

const SPAN: &str = "idempotent";

fn said(words: &[&str]) -> Vec<Option<String>> {
    words.iter().map(|word| Some((*word).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_one_span_that_says_what_it_came_to() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let (store, idempotency) = faulty();
    let (runs, gate) = (Runs::default(), Gate::new());
    let mut paying = {
        let gate = gate.clone();
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        Box::pin(pay_with(&idempotency, REFUSE, &runs, effect))
    };
    tokio::select! {
        biased;
        result = &mut paying => panic!("{result:?}"),
        () = gate.reached() => {}
    }
    assert_refused(&pay(&idempotency, REFUSE, &runs).await, in_flight);
    gate.open();
    assert_fresh(&paying.await);
    assert_replay(&pay(&idempotency, REFUSE, &runs).await);
    let other = operation(REFUSE).fingerprint(Fingerprint::of_bytes(b"another"));
    idempotency.execute(other, async |_| Ok::<_, Infallible>(())).await.unwrap_err();
    store.fail(Step::Claim, Fault::Refused(StoreErrorKind::Misconfigured));
    assert_refused(&pay(&idempotency, REFUSE, &runs).await, unavailable);

    let spans = spans.named(SPAN);
    let outcomes: Vec<_> = spans.iter().map(|span| span.fields["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["fresh", "in_flight", "replayed", "mismatch", "unavailable"]);
    for span in &spans {
        assert!(span.is_closed, "{span:?}");
        assert_eq!(span.fields["scope"], "refuse");
        // The digest that is in every log, and not the key that the caller sent.
        assert!(span.fields["key"].len() == 8 && span.fields["key"] == spans[0].fields["key"], "{span:?}");
        assert_eq!(span.fields.get("attempt").map(String::as_str), (span.fields["outcome"] == "fresh").then_some("1"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_and_a_panic_are_said_too() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let idempotency = runtime(memory());
    let runs = Runs::default();
    let broken = pay_with(&idempotency, REFUSE, &runs, async |_| panic!("as it should")).await;
    broken.unwrap_err();
    assert_refused(&pay(&idempotency, REFUSE, &runs).await, unknown);
    assert_eq!(spans.each(SPAN, "outcome"), said(&["panicked", "unknown"]));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_in_one_span_until_it_has_its_answer() {
    const PATIENT: Policy = RETRY.on_conflict(OnConflict::Wait(Duration::from_secs(10))).validate();
    let spans = Spans::default();
    let _listening = spans.listen();
    let idempotency = runtime(memory());
    let (runs, gate) = (Runs::default(), Gate::new());
    let effect = {
        let gate = gate.clone();
        async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        }
    };
    let waiting = async {
        gate.reached().await;
        let waited = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            gate.open();
        };
        tokio::join!(pay(&idempotency, PATIENT, &runs), waited).0
    };
    let (first, second) = tokio::join!(pay_with(&idempotency, PATIENT, &runs, effect), waiting);
    assert_fresh(&first);
    assert_replay(&second);
    assert_eq!(spans.each(SPAN, "outcome"), said(&["fresh", "replayed"]));
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_inside_the_span_of_its_operation_when_the_caller_is_gone_too() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let (store, idempotency) = faulty();
    let (runs, gate) = (Runs::default(), Gate::new());
    let effect = {
        let gate = gate.clone();
        async move |_| {
            gate.pass().instrument(debug_span!("in place")).await;
            drop(debug_span!("on its own"));
            Ok("paid".to_owned())
        }
    };
    let called = pay_with(&idempotency, RETRY, &runs, effect).instrument(debug_span!("request"));
    tokio::select! {
        biased;
        result = called => panic!("{result:?}"),
        () = gate.reached() => {}
    }
    assert!(!spans.named(SPAN)[0].is_closed && !spans.named(SPAN)[0].fields.contains_key("outcome"));
    gate.open();
    store.called(Step::Complete, 1).await;
    settled(&idempotency).await;
    for name in ["in place", "on its own"] {
        assert_eq!(spans.named(name)[0].parent, Some(SPAN), "{name}");
    }
    let [operation] = &spans.named(SPAN)[..] else { panic!("{spans:?}") };
    assert_eq!(operation.parent, Some("request"));
    assert_eq!((operation.fields["attempt"].as_str(), operation.fields["outcome"].as_str()), ("1", "fresh"));
    assert!(operation.is_closed);
}

#[tokio::test(start_paused = true)]
async fn where_the_span_is_not_wanted_nothing_is_said_to_another() {
    let spans = Spans::default().but("idem_runtime");
    let _listening = spans.listen();
    let runs = Runs::default();
    let request = debug_span!("idempotent", outcome = Empty, attempt = Empty);
    assert_fresh(&pay(&runtime(memory()), RETRY, &runs).instrument(request).await);
    assert_eq!(spans.each(SPAN, "outcome"), [None]);
    assert_eq!(spans.each(SPAN, "attempt"), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_request_and_an_event_are_operations_with_spans() {
    const EVENTS: Policy = Policy::new("events").validate_for_events();
    let spans = Spans::default();
    let _listening = spans.listen();
    let idempotency = runtime(memory());
    let layer = IdempotencyLayer::new(idempotency.clone(), Policy::new("requests"));
    let app: Router = Router::new().route("/", post(async || "paid")).layer(layer);
    for key in ["a", "a"] {
        let request = Request::post("/").header("idempotency-key", key).body(Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200);
    }
    assert_eq!(spans.each(SPAN, "scope"), said(&["requests", "requests"]));
    assert_eq!(spans.each(SPAN, "outcome"), said(&["fresh", "replayed"]));

    let spans = Spans::default();
    let _listening = spans.listen();
    let consumer = idempotency.consumer(EVENTS);
    consumer.process(Event::new("evt_1", "1"), async |_| Ok::<_, Infallible>(())).await.unwrap();
    let batch = vec![Event::new("evt_1", "1"), Event::new("evt_2", "2")];
    for processed in consumer.process_many(batch, async |_, _| Ok::<_, Infallible>(())).await {
        processed.unwrap();
    }
    assert_eq!(spans.each(SPAN, "outcome"), said(&["fresh", "replayed", "fresh"]));
    assert_eq!(spans.each(SPAN, "attempt"), [Some("1".to_owned()), None, Some("1".to_owned())]);
    assert!(spans.named(SPAN).iter().all(|span| span.is_closed && span.fields["scope"] == "events"), "{spans:?}");
}

#[tokio::test]
async fn an_operation_in_a_transaction_is_a_span_and_its_handler_inside() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("records.db")).await.unwrap();
    let idempotency = Idempotency::builder(store.clone()).shared().build();
    let pay = |policy: Policy, key: &str| {
        let effect = |tx: Tx<SqliteStore>, _| async move {
            drop((tx, debug_span!("charge")));
            Ok::<_, Infallible>(())
        };
        idempotency.transact(&store, Operation::new(policy, Principal::SHARED, key), effect)
    };
    pay(RETRY, "k").await.unwrap();
    pay(RETRY, "k").await.unwrap();
    assert_eq!(spans.each(SPAN, "outcome"), said(&["fresh", "replayed"]));
    assert_eq!(spans.each(SPAN, "attempt"), [Some("1".to_owned()), None]);
    assert_eq!(spans.named("charge").iter().map(|span| span.parent).collect::<Vec<_>>(), [Some(SPAN)]);
}
