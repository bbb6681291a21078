#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "orders", key = from_query("token"))]
async fn create(body: String) -> String {
    body
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/?token=a%20b", &[], "a"));
}
