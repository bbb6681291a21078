#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(
    scope = "payments.v2_eu-1",
    ttl = "7d",
    remember = "30d",
    key = from_header,
    missing = reject,
    key_space = scope,
    fingerprint = fields("/amount", "/currency"),
    store = definitive,
    on_conflict = wait("5s"),
    lease = "500ms",
    renew_for = "10m",
    on_abandoned = refuse,
    on_store_error = reject,
    financial,
    runtime = state,
    crate = idem_runtime,
)]
async fn pay(body: String) -> String {
    body
}

#[idempotent(
    scope = "views",
    ttl = "90m",
    missing = run,
    key_space = endpoint,
    fingerprint = off,
    store = all,
    on_conflict = reject,
    on_abandoned = retry,
    on_store_error = run
)]
async fn view(body: String) -> String {
    body
}

#[idempotent(scope = "orders", fingerprint = json, store = success, key = from_header)]
async fn order(body: String) -> String {
    body
}

#[idempotent(scope = "orders", fingerprint = bytes, key = from_header)]
async fn exact(body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/pay", post(pay))
        .route("/view", post(view))
        .route("/order", post(order))
        .route("/exact", post(exact))
        .with_state(support::runtime());
    let key = [("idempotency-key", "k")];
    for uri in ["/pay", "/view", "/order", "/exact"] {
        support::runs_once(&app, || support::post(uri, &key, r#"{"amount":1,"currency":"usd"}"#));
    }
    let answers = support::send(
        &app,
        [
            support::post("/pay", &key, r#"{"currency":"usd","amount":1,"note":"again"}"#),
            support::post("/pay", &key, r#"{"currency":"eur","amount":1}"#),
            support::post("/view", &key, "anything"),
            support::post("/order", &key, r#"{ "currency": "usd", "amount": 1 }"#),
            support::post("/exact", &key, r#"{ "currency": "usd", "amount": 1 }"#),
        ],
    );
    assert_eq!(answers.iter().map(|answer| answer.0).collect::<Vec<_>>(), [200, 422, 200, 200, 422], "{answers:?}");
}
