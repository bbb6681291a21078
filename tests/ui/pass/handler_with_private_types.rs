#![allow(private_interfaces)]

#[path = "../support.rs"]
mod support;

use axum::{Json, Router, extract::FromRef, extract::State, routing::post};
use idem_runtime::{Idempotency, idempotent};

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
}

#[derive(serde::Deserialize)]
struct Order {
    id: String,
}

#[idempotent(scope = "orders", key = order.id)]
pub async fn create(State(_): State<App>, Json(order): Json<Order>) -> String {
    order.id
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(App { idempotency: support::runtime() });
    support::runs_once(&app, || support::post("/", &[], r#"{"id":"a"}"#));
}
