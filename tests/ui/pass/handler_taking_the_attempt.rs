#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::{Attempt, idempotent};

#[idempotent(scope = "orders", key = from_header)]
async fn create(attempt: Attempt, _: String) -> String {
    format!("{} {}", attempt.number(), attempt.downstream_key("charge").is_empty())
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], ""));
    assert_eq!(answer.2, "1 false");
}
