//! A guard inside another one.

use axum::{Router, response::IntoResponse, routing::post};
use http::{HeaderValue, StatusCode};
use idem_runtime::{
    Attempt, Disposition, Idempotency, IdempotencyLayer, KeySource, KeySpace, MemoryStore, OnAbandoned, Policy,
    StoreRule,
};
use tests::{
    exchange,
    gate::Gate,
    service::{Call, Script},
};

/// What the script says, under both guards.
fn guarded_twice(script: &Script, outer: Policy, inner: Policy) -> Router {
    let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
    let script = script.clone();
    Router::new()
        .route("/things", post(async move || script.run(Call::default()).await))
        .layer(IdempotencyLayer::new(idempotency.clone(), inner))
        .layer(IdempotencyLayer::new(idempotency, outer))
}

/// What the inner guard refuses for now is not the operation's answer: the outer one asks it again.
#[tokio::test]
async fn a_guard_keeps_no_refusal_of_a_guard_inside() {
    const OUTER: Policy = Policy::new("outer").store(StoreRule::All);
    const INNER: Policy = Policy::new("inner").key_space(KeySpace::Scope).key(&[KeySource::Header("x-order")]);
    let gate = Gate::new();
    let handler = {
        let gate = gate.clone();
        async move || {
            gate.pass().await;
            "done"
        }
    };
    let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
    let app: Router = Router::new()
        .route("/things", post(handler))
        .layer(IdempotencyLayer::new(idempotency.clone(), INNER))
        .layer(IdempotencyLayer::new(idempotency, OUTER));
    let request = |key: &str| {
        let mut request = exchange::post("/things", key, "");
        request.headers_mut().insert("x-order", HeaderValue::from_static("1"));
        request
    };
    let first = tokio::spawn({
        let (app, request) = (app.clone(), request("a"));
        async move { exchange::send(&app, request).await }
    });
    gate.reached().await;
    let meanwhile = exchange::send(&app, request("b")).await;
    assert_eq!((meanwhile.status, meanwhile.replayed()), (StatusCode::CONFLICT, false));
    gate.open();
    assert_eq!(first.await.expect("an answer").text(), "done");
    let retry = exchange::send(&app, request("b")).await;
    assert_eq!((retry.status, retry.text().as_str()), (StatusCode::OK, "done"));
}

#[tokio::test]
async fn what_the_handler_says_of_its_answer_is_said_to_every_guard() {
    let script = Script::new();
    script.answer(|run, _| match run {
        1 => (Disposition::Release, "not yet").into_response(),
        2 => (StatusCode::BAD_GATEWAY, Disposition::Store, "declined").into_response(),
        _ => (Disposition::Unknown, "who knows").into_response(),
    });
    let app = guarded_twice(&script, Policy::new("outer"), Policy::new("inner"));
    let ask = async |key| {
        let reply = exchange::send(&app, exchange::post("/things", key, "")).await;
        format!("{} {}", reply.summary(), reply.text().lines().next().unwrap_or_default())
    };
    assert_eq!(ask("k").await, "200 fresh not yet");
    assert_eq!(ask("k").await, "502 fresh declined");
    assert_eq!(ask("k").await, "502 replay declined");
    assert_eq!(ask("k2").await, "200 fresh who knows");
    assert!(ask("k2").await.starts_with("409 outcome-unknown"));
    assert_eq!(script.runs(), 3);
}

/// It says only that this request failed; what becomes of the operation is for the inner guard to say.
#[tokio::test]
async fn a_guard_keeps_no_panic_of_a_guard_inside() {
    const OUTER: Policy = Policy::new("outer").store(StoreRule::All);
    const INNER: Policy = Policy::new("inner").on_abandoned(OnAbandoned::Refuse);
    let script = Script::new();
    script.answer(|_, _| panic!("the handler panics, as it is told to"));
    let app = guarded_twice(&script, OUTER, INNER);
    let ask = || exchange::send(&app, exchange::post("/things", "k", ""));
    assert_eq!(ask().await.summary(), "500 panicked");
    assert_eq!(ask().await.summary(), "409 outcome-unknown");
    assert_eq!(script.runs(), 1);
}

/// Who kept the answer has settled it: it is there to be replayed.
#[tokio::test]
async fn a_doubt_is_none_where_a_guard_inside_kept_the_answer() {
    const INNER: Policy = Policy::new("inner").store(StoreRule::Definitive);
    let script = Script::new();
    script.statuses(&[402, 503]);
    let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
    let handler = {
        let script = script.clone();
        async move |attempt: Attempt| {
            attempt.mark_unknown();
            script.run(Call::default()).await
        }
    };
    let app: Router = Router::new()
        .route("/things", post(handler))
        .layer(IdempotencyLayer::new(idempotency.clone(), INNER))
        .layer(IdempotencyLayer::new(idempotency.clone(), Policy::new("outer")));
    let ask = async |key| exchange::send(&app, exchange::post("/things", key, "")).await.summary();
    assert_eq!((ask("kept").await.as_str(), ask("kept").await.as_str()), ("402 fresh", "402 replay"));
    assert_eq!((ask("freed").await.as_str(), ask("freed").await.as_str()), ("503 fresh", "409 outcome-unknown"));
    // By the outer guard, which did not ask the inner one.
    assert_eq!(script.runs(), 2);
}
