//! What a layer around the guard is told of an answer, beside its status, headers and bytes.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{StatusCode, header};
use idem_runtime::{IdempotencyLayer, KeySource, OnAbandoned, Policy, Rejection, StoreRule, idempotent};
use serde_json::{Value, json};
use tests::{
    backend::Backend,
    client::Reply,
    service::{App, Call, Service, Setup},
};

tests::on_store!(
    memory,
    tests::backend::Memory,
    every_refusal_is_found_by_a_layer_outside,
    an_answer_that_is_no_refusal_is_found_as_none,
    a_refusal_keeps_its_pause_in_another_format,
);

#[idempotent(scope = "payments", key = from_header, fingerprint = json, store = all, on_abandoned = refuse)]
async fn pay(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn plain(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

const POLICY: Policy = Policy::new("payments")
    .key(&[KeySource::DEFAULT])
    .fingerprint(idem_runtime::FingerprintRule::Json)
    .store(StoreRule::All)
    .on_abandoned(OnAbandoned::Refuse)
    .validate();

/// As a service does that has a format of its own.
async fn in_our_format(response: Response) -> Response {
    let Some(refused) = response.extensions().get::<Rejection>() else { return response };
    let error = json!({
        "error": refused.code().as_str(),
        "message": refused.detail(),
        "again": refused.retryable(),
        "pause": refused.retry_after().map(|pause| pause.as_secs()),
    });
    let mut restyled = (refused.status(), Json(error)).into_response();
    *restyled.extensions_mut() = response.extensions().clone();
    restyled
}

/// The attribute at `/attribute` and the layer at `/layer`, under a layer that restyles.
fn service(backend: &Backend) -> Setup<'_> {
    Service::with(backend, |idempotency| {
        Router::new()
            .route("/layer", post(plain).layer(IdempotencyLayer::new(idempotency.clone(), POLICY)))
            .route("/attribute", post(pay))
            .layer(DefaultBodyLimit::max(100))
            .layer(map_response(in_our_format))
    })
    .runtime(|builder| builder.principal_from_header("x-account").body_deadline(Duration::from_millis(50)))
}

const PATHS: [&str; 2] = ["/attribute", "/layer"];

#[track_caller]
fn assert_restyled(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{reply}");
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"), "{reply}");
    let error: Value = serde_json::from_slice(&reply.body).expect("an error in our format");
    assert_eq!(error["error"], code, "{reply}");
    assert!(error["message"].as_str().is_some_and(|message| message.ends_with('.')), "{reply}");
}

async fn every_refusal_is_found_by_a_layer_outside(backend: Backend) {
    let service = service(&backend).start().await;
    for path in PATHS {
        let ask = |key: &str| service.post(path).key(key);
        assert_restyled(&service.post(path).send().await, 400, "key-missing");
        assert_restyled(&ask("a b").send().await, 400, "key-invalid");
        assert_restyled(&ask("k").without("x-account").send().await, 400, "principal-missing");
        assert_restyled(&ask("k").json("no json").send().await, 400, "body-invalid");
        assert_restyled(&ask("k").json(r#"{"a":1,"a":1}"#).send().await, 400, "body-invalid");
        assert_restyled(&ask("k").body(vec![b'1'; 101]).send().await, 413, "body-too-large");
        let never = axum::body::Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        assert_restyled(&ask("k").body(never).send().await, 408, "body-timeout");

        let runs = service.runs();
        service.script().hold();
        let first = tokio::spawn(ask("k").json("1").send());
        service.script().begun(runs + 1).await;
        assert_restyled(&ask("k").json("1").send().await, 409, "in-flight");
        assert_restyled(&ask("k").json("2").send().await, 422, "key-reused");
        service.script().release();
        first.await.expect("a reply").assert_fresh(201);

        service.script().answer(|_, _| panic!("the handler panics, as it is told to"));
        assert_restyled(&ask("broken").json("1").send().await, 500, "panicked");
        assert_restyled(&ask("broken").json("1").send().await, 409, "outcome-unknown");
        service.script().answer(|_, _| StatusCode::CREATED.into_response());
    }
}

async fn an_answer_that_is_no_refusal_is_found_as_none(backend: Backend) {
    let service = service(&backend).start().await;
    // What a refusal has, but for what makes it one.
    service.script().answer(|_, _| {
        let problem = r#"{"type":"urn:idempotency:in-flight","code":"in-flight","status":409,"retryable":true}"#;
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::RETRY_AFTER, "1")];
        (StatusCode::CONFLICT, headers, problem).into_response()
    });
    for path in PATHS {
        let first = service.post(path).key("k").json("1").send().await;
        first.assert_fresh(409);
        assert_eq!(first.header("content-type").as_deref(), Some("application/problem+json"), "{first}");
        let replay = service.post(path).key("k").json("1").send().await;
        replay.assert_replay_of(&first);
    }
    // What a handler answers in the words of the guard is the handler's own answer once it is replayed.
    service.script().answer(|_, _| Rejection::from(idem_runtime::Code::ResponseNotKept).into_response());
    for path in PATHS {
        assert_restyled(&service.post(path).key("own").json("1").send().await, 409, "response-not-kept");
        let replay = service.post(path).key("own").json("1").send().await;
        assert!(replay.is_replay(), "{replay}");
        assert_eq!(replay.header("content-type").as_deref(), Some("application/problem+json"), "{replay}");
    }
}

async fn a_refusal_keeps_its_pause_in_another_format(backend: Backend) {
    let service = service(&backend).start().await;
    for path in PATHS {
        let runs = service.runs();
        service.script().hold();
        let first = tokio::spawn(service.post(path).key("k").json("1").send());
        service.script().begun(runs + 1).await;
        let busy: Value =
            serde_json::from_slice(&service.post(path).key("k").json("1").send().await.body).expect("JSON");
        assert_eq!((&busy["again"], &busy["pause"]), (&json!(true), &json!(1)));
        let reused: Value =
            serde_json::from_slice(&service.post(path).key("k").json("2").send().await.body).expect("JSON");
        assert_eq!((&reused["again"], &reused["pause"]), (&json!(false), &Value::Null));
        service.script().release();
        first.await.expect("a reply").assert_fresh(201);
    }
}
