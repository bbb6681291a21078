#[path = "../support.rs"]
mod support;

use axum::{Json, Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "orders", key = from_header)]
async fn create(Json(items): Json<Vec<u64>>) -> String {
    format!("{} items", items.len())
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "[1, 2]"));
    assert_eq!(answer.2, "2 items");
}
