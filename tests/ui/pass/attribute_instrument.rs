#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::idempotent;
use tracing::instrument;

#[idempotent(scope = "orders", key = from_header)]
#[instrument(skip(body), fields(length = body.len()))]
async fn below(Path(id): Path<u64>, mut body: String) -> Result<String, String> {
    body.push_str(&id.to_string());
    Ok(body)
}

fn main() {
    let app = Router::new().route("/{id}", post(below)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/1", &[("idempotency-key", "k")], "a"));
    assert_eq!(answer.2, "a1");
}
