#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "reports")]
async fn opt_in(body: String) -> String {
    body
}

#[idempotent(scope = "reports", key = from_header("x-event"), missing = run)]
async fn named(body: String) -> String {
    body
}

#[idempotent(scope = "reports", missing = reject)]
async fn required(body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/opt-in", post(opt_in))
        .route("/named", post(named))
        .route("/required", post(required))
        .with_state(support::runtime());
    support::runs_twice(&app, || support::post("/opt-in", &[], "a"));
    support::runs_once(&app, || support::post("/opt-in", &[("idempotency-key", "k")], "a"));
    support::runs_twice(&app, || support::post("/named", &[("idempotency-key", "k")], "a"));
    support::runs_once(&app, || support::post("/named", &[("x-event", "k")], "a"));
    assert_eq!(support::send(&app, [support::post("/required", &[], "a")])[0].0, 400);
}
