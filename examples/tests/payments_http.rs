//! What the built service makes of requests that are spelled otherwise, too large, or for nothing that is there.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use axum::http::{Request, StatusCode, Version, request::Builder};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;

use self::support::{Answer, Ledger, Service, card, within};

async fn service() -> (Service, Ledger) {
    let ledger = Ledger::new();
    (Service::start("memory:", &ledger).await, ledger)
}

fn request(service: &Service, path: &str, key: &str) -> Builder {
    Request::post(service.uri(path)).header("content-type", "application/json").header("idempotency-key", key)
}

/// With no word before: a client that knows.
#[tokio::test]
async fn it_speaks_http2() {
    let (service, ledger) = service().await;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let charge = request(&service, "/payments", "k").header("authorization", "Bearer alice");
    let charge = charge.body(Full::from(card("tok_visa").to_string())).expect("a request");
    let response = within(client.request(charge)).await.expect("an answer");
    assert_eq!((response.version(), response.status()), (Version::HTTP_2, StatusCode::CREATED));
    let first = within(response.into_body().collect()).await.expect("a body").to_bytes();

    let retry = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert!(retry.replayed(), "the other protocol, and the same key");
    assert_eq!(retry.bytes, first);
    assert_eq!(ledger.lines().len(), 1);
}

#[tokio::test]
async fn a_large_event_is_acknowledged_again() {
    let (service, ledger) = service().await;
    let event = json!({ "type": "charge.succeeded", "padding": "x".repeat(1_500_000) }).to_string();
    let deliver = async || {
        let request = request(&service, "/webhooks/psp", "k").header("authorization", "Bearer psp");
        let request = request.header("x-event-id", "evt-1").body(Full::from(event.clone())).expect("a request");
        service.send(request).await.expect("an answer")
    };
    let (first, again) = (deliver().await, deliver().await);
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED), "{again:?}");
    assert!(again.replayed());
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(ledger.lines().len(), 1);
}

#[tokio::test]
async fn an_order_in_another_spelling_is_the_same() {
    let (service, ledger) = service().await;
    let first = service.post_text("/orders", r#"{"order":{"id":"o-1"},"items":["tea"]}"#).await;
    let again = service.post_text("/orders", r#"{ "items": ["tea"], "order": { "id": "o-1" } }"#).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert!(again.replayed(), "{again:?}");
    assert_eq!(ledger.lines().len(), 1);
}

/// Who names no fields may have meant another order of them.
#[tokio::test]
async fn values_without_their_names_are_refused() {
    let (service, ledger) = service().await;
    for (path, body) in [
        ("/payments", json!([1999, "usd", "tok_visa"])),
        ("/wait", json!([1999, "usd", "tok_visa"])),
        ("/payments/pay_0/refunds", json!([1999])),
        ("/carts/c-1/checkout", json!([])),
    ] {
        let answer = service.post(path, Some("k"), &body).await;
        assert_problem(&answer, StatusCode::UNPROCESSABLE_ENTITY, "an object");
    }
    let charge = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!(charge.status, StatusCode::CREATED, "the key is free");
    assert_eq!(ledger.lines().len(), 1);
}

#[tokio::test]
async fn a_caller_with_two_names_is_none() {
    let (service, ledger) = service().await;
    let request = request(&service, "/payments", "k").header("authorization", "Bearer alice");
    let request = request.header("authorization", "Bearer bob").body(Full::from(card("tok_visa").to_string()));
    let answer = service.send(request.expect("a request")).await.expect("an answer");
    assert_problem(&answer, StatusCode::UNAUTHORIZED, "send `Authorization: Bearer NAME`");
    assert!(ledger.lines().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let (service, _ledger) = service().await;
    assert_problem(&service.get("/nothing").await, StatusCode::NOT_FOUND, "nothing at this path");
    for path in ["/orders", "/payments/pay_0/refunds", "/transfers"] {
        let answer = service.get(path).await;
        assert_problem(&answer, StatusCode::METHOD_NOT_ALLOWED, "does not take this method");
        assert_eq!(answer.header("allow"), Some("POST"), "{path}");
    }
    assert_problem(&service.get("/payments/%FF").await, StatusCode::BAD_REQUEST, "UTF-8");
    let refund = service.post("/payments/%FF/refunds", Some("k"), &json!({ "amount": 1 })).await;
    assert_problem(&refund, StatusCode::BAD_REQUEST, "UTF-8");
}

fn assert_problem(answer: &Answer, status: StatusCode, detail: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status.as_u16())));
    assert!(problem["detail"].as_str().is_some_and(|said| said.contains(detail)), "no `{detail}`: {problem}");
}
