//! Whole operations on memory: through `execute`, and through the layer against the service it is put around.

// `criterion_main` makes a public function, and what fails here fails the measurement.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{convert::Infallible, hint::black_box, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::BodyExt;
use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Operation, Policy, Principal};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Short, so that old records are dropped while new ones come, as in a service that has run for a day.
const POLICY: Policy = Policy::new("payments").ttl(Duration::from_millis(100)).validate();
const KEPT: Policy = Policy::new("kept").validate();

criterion_group!(benches, execute, layer);
criterion_main!(benches);

fn execute(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let idempotency = idempotency();
    let mut keys = (0u64..).map(|at| at.to_string());
    let mut group = criterion.benchmark_group("execute");
    group.bench_function("first", |bencher| {
        bencher.to_async(&tokio).iter(|| run(&idempotency, POLICY, keys.next().unwrap(), false));
    });
    tokio.block_on(run(&idempotency, KEPT, "replayed".to_owned(), false));
    group.bench_function("replay", |bencher| {
        bencher.to_async(&tokio).iter(|| run(&idempotency, KEPT, "replayed".to_owned(), true));
    });
    group.finish();
}

async fn run(idempotency: &Idempotency, policy: Policy, key: String, replayed: bool) {
    let operation = Operation::new(policy, Principal::new("acct_1"), key);
    let executed = idempotency.execute(operation, |attempt| async move { Ok::<_, Infallible>(attempt.number()) }).await;
    assert_eq!(black_box(executed.unwrap().replayed), replayed);
}

fn layer(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bare = service_fn(charge);
    let first = IdempotencyLayer::new(idempotency(), POLICY).layer(bare);
    let replay = IdempotencyLayer::new(idempotency(), KEPT).layer(bare);
    let mut keys = (0u64..).map(|at| at.to_string());
    let mut group = criterion.benchmark_group("layer");
    group.bench_function("bare", |bencher| {
        bencher.to_async(&tokio).iter(|| answered(bare, keys.next().unwrap(), false));
    });
    group.bench_function("first", |bencher| {
        bencher.to_async(&tokio).iter(|| answered(first.clone(), keys.next().unwrap(), false));
    });
    tokio.block_on(answered(replay.clone(), "replayed".to_owned(), false));
    group.bench_function("replay", |bencher| {
        bencher.to_async(&tokio).iter(|| answered(replay.clone(), "replayed".to_owned(), true));
    });
    group.finish();
}

async fn answered<S>(service: S, key: String, replayed: bool)
where
    S: Service<Request, Response = Response, Error: std::fmt::Debug>,
{
    let request = Request::post("http://localhost/charge")
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(Body::from(r#"{"amount":1999,"currency":"usd","source":"tok_visa"}"#))
        .unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
    black_box(response.into_body().collect().await.unwrap().to_bytes());
}

async fn charge(request: Request) -> Result<Response, Infallible> {
    black_box(request.into_body().collect().await.unwrap().to_bytes());
    let body = Body::from(r#"{"id":"pay_1","amount":1999,"currency":"usd","status":"succeeded"}"#);
    Ok(Response::builder().status(201).header("location", "/payments/pay_1").body(body).unwrap())
}

fn idempotency() -> Idempotency {
    let store = MemoryStore::builder().max_entries(usize::MAX).max_bytes(usize::MAX).build();
    Idempotency::builder(store).shared().build()
}
