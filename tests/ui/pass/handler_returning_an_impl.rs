#[path = "../support.rs"]
mod support;

use axum::{Router, http::StatusCode, response::IntoResponse, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "orders", key = from_header)]
async fn create(body: String) -> impl IntoResponse {
    if body.is_empty() {
        return (StatusCode::ACCEPTED, "later".to_owned());
    }
    (StatusCode::CREATED, body)
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], ""));
    assert_eq!((answer.0, &*answer.2), (202, "later"));
}
