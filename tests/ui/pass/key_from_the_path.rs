#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "orders", key = from_path("id"))]
async fn cancel(Path(id): Path<u64>) -> String {
    id.to_string()
}

fn main() {
    let app = Router::new().route("/orders/{id}/cancel", post(cancel)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/orders/7/cancel", &[], ""));
    assert_eq!(answer.2, "7");
}
