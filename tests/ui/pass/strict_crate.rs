//! Generated code breaks none of a crate's rules.
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    missing_copy_implementations,
    unused_qualifications,
    single_use_lifetimes,
    trivial_casts,
    unit_bindings,
    unnameable_types,
    let_underscore_drop,
    non_local_definitions,
    non_ascii_idents
)]
#![deny(rust_2018_idioms, rust_2021_compatibility, nonstandard_style, future_incompatible, unused)]
#![forbid(unsafe_code, missing_docs)]

#[path = "../support.rs"]
mod support;

use axum::{
    Json, Router,
    extract::{FromRef, State},
    routing::post,
};
use idem_runtime::{Attempt, Idempotency, financial, idempotent};

/// The state.
#[derive(Clone, Debug, FromRef)]
pub struct App {
    idempotency: Idempotency,
}

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
pub struct Order {
    id: String,
}

/// Makes an order.
#[financial]
#[idempotent(scope = "orders", key = any_of(order.id, from_fn(no_key)), principal = order.id)]
pub async fn create(State(_): State<App>, attempt: Attempt, Json(order): Json<Order>) -> String {
    format!("{} {}", order.id, attempt.number())
}

fn no_key(_: &idem_runtime::KeyRequest<'_>) -> Option<String> {
    None
}

fn main() {
    #[idempotent(scope = "local", key = derive("order", "local", body))]
    async fn local(body: String) -> String {
        body
    }

    let app = Router::new()
        .route("/", post(create))
        .route("/local", post(local))
        .with_state(App { idempotency: support::runtime() });
    let answer = support::runs_once(&app, || support::post("/", &[], r#"{"id":"a"}"#));
    assert_eq!(answer.2, "a 1");
    support::runs_once(&app, || support::post("/local", &[], "a"));
}
