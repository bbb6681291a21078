#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "countdown", key = from_header)]
async fn count(Path(from): Path<u64>) -> String {
    if from == 0 {
        return "0".to_owned();
    }
    // The name is the function as it was written.
    format!("{from} {}", Box::pin(count(Path(from - 1))).await)
}

fn main() {
    let app = Router::new().route("/{from}", post(count)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/3", &[("idempotency-key", "k")], ""));
    assert_eq!(answer.2, "3 2 1 0");
}
