#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn usual(body: String) -> String {
    body
}

#[idempotent(scope = "events", key = from_header("X-Event-Id"))]
async fn named(body: String) -> String {
    body
}

fn main() {
    let app = Router::new().route("/usual", post(usual)).route("/named", post(named)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/usual", &[("idempotency-key", "\"k\"")], "a"));
    support::runs_once(&app, || support::post("/named", &[("x-event-id", "k")], "a"));
    let answers = support::send(&app, [support::post("/usual", &[], "a"), support::post("/named", &[], "a")]);
    assert!(answers.iter().all(|answer| answer.0 == 400 && answer.2.contains("key-missing")), "{answers:?}");
}
