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

use self::support::{Ledger, Service, card, within};

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
