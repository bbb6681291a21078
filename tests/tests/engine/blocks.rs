//! How large the blocks are that a guarded request asks the allocator for.

use std::{future::Future, mem::size_of_val, pin::Pin};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRef, Request},
    handler::Handler,
    http::StatusCode,
    response::IntoResponse,
    routing::post,
};
use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Policy, idempotent};
use serde::Deserialize;
use tower::{Layer, Service};

/// The largest block that glibc hands out from a list of the thread's own; for a larger one it searches.
const QUICK: usize = 1032;

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
}

#[derive(Deserialize)]
struct NewCharge {
    amount: u64,
    currency: String,
    source: String,
}

#[idempotent(scope = "blocks", ttl = "24h", key = from_header)]
async fn charge(Json(charge): Json<NewCharge>) -> impl IntoResponse {
    let NewCharge { amount, currency, source } = charge;
    (StatusCode::CREATED, format!("{amount} {currency} {source}"))
}

#[test]
fn a_guarded_handler_is_a_block_that_is_handed_out_quickly() {
    let app = App { idempotency: idempotency() };
    let size = block(&Handler::call(charge, request(), app));
    assert!(size <= QUICK, "{size} bytes");
}

#[test]
fn a_guarded_service_is_a_block_that_is_handed_out_quickly() {
    let inner: Router = Router::new().route("/", post(async || "charged"));
    let mut guarded = IdempotencyLayer::new(idempotency(), Policy::new("blocks")).layer(inner);
    let size = block(&guarded.call(request()));
    assert!(size <= QUICK, "{size} bytes");
}

fn block<T>(future: &Pin<Box<dyn Future<Output = T> + Send>>) -> usize {
    size_of_val(&**future)
}

fn idempotency() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).shared().build()
}

fn request() -> Request {
    Request::post("/").body(Body::empty()).unwrap()
}
