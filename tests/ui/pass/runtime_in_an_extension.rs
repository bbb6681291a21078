#[path = "../support.rs"]
mod support;

use axum::{Extension, Router, extract::State, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "orders", key = from_header, runtime = extension)]
async fn create(State(suffix): State<&'static str>, body: String) -> String {
    body + suffix
}

fn main() {
    let app = Router::new().route("/", post(create)).layer(Extension(support::runtime())).with_state("!");
    let answer = support::runs_once(&app, || support::post("/", &[("idempotency-key", "k")], "a"));
    assert_eq!(answer.2, "a!");
}
