#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "moves", key = r#type)]
async fn r#move(Path(r#type): Path<String>) -> String {
    r#type
}

fn main() {
    let app = Router::new().route("/{type}", post(r#move)).with_state(support::runtime());
    let answer = support::runs_once(&app, || support::post("/left", &[], ""));
    assert_eq!(answer.2, "left");
}
