//! What the user says of lints holds for all that was made of the function, and nothing more is said.
#![deny(warnings, unused, deprecated)]

#[path = "../support.rs"]
mod support;

use axum::{Json, Router, routing::post};
use idem_runtime::idempotent;

#[derive(serde::Deserialize)]
struct Order {
    #[deprecated = "use `number`"]
    id: String,
}

#[idempotent(scope = "orders", key = order.id)]
#[expect(deprecated)]
async fn old(Json(order): Json<Order>) -> String {
    order.id
}

#[idempotent(scope = "orders", key = from_header)]
#[allow(unused_variables, unused_mut)]
async fn careless(mut body: String) -> &'static str {
    let nothing = 5;
    "done"
}

#[idempotent(scope = "orders", key = from_header)]
#[cfg(not(any()))]
#[cfg_attr(not(any()), must_use)]
#[inline]
async fn conditional(body: String) -> String {
    body
}

#[idempotent(scope = "orders", key = from_header)]
#[cfg(any())]
async fn absent(body: NoSuchType) {}

#[idempotent(scope = "orders", key = from_header)]
#[expect(dead_code)]
async fn unused(body: String) -> String {
    body
}

fn main() {
    let app = Router::new()
        .route("/old", post(old))
        .route("/careless", post(careless))
        .route("/conditional", post(conditional))
        .with_state(support::runtime());
    support::runs_once(&app, || support::post("/old", &[], r#"{"id":"a"}"#));
    support::runs_once(&app, || support::post("/careless", &[("idempotency-key", "k")], ""));
    support::runs_once(&app, || support::post("/conditional", &[("idempotency-key", "k")], ""));
}
