#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "reports", key = from_header)]
async fn create() -> &'static str {
    "made"
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], ""));
    assert_eq!(answer.2, "made");
}
