//! Types of the user's own that are called as those of the language and of the prelude are.
#![allow(dead_code, non_camel_case_types)]

#[path = "../support.rs"]
mod support;

use axum::{Json, Router, response::IntoResponse, routing::post};
use idem_runtime::{Idempotency, KeyRequest, Settlement, Unsettled, idempotent, idempotent_consumer};
use orders::Order;

struct bool;
struct char;
struct str;
struct u64;
struct usize;
struct Box;
struct Clone;
struct Copy;
struct Debug;
struct Default;
struct Fn;
struct From;
struct Future;
struct Into;
struct Send;
struct Sized;
struct Sync;
struct Vec;
enum Option {}
enum Result {}

fn no_key(_: &KeyRequest<'_>) -> std::option::Option<String> {
    None
}

async fn ask(_: Unsettled) -> std::option::Option<Settlement> {
    None
}

/// Apart: what serde derives names types as the language does.
mod orders {
    #[derive(serde::Deserialize, serde::Serialize)]
    pub(crate) struct Order {
        pub(crate) id: String,
    }
}

#[idempotent(
    scope = "orders",
    ttl = "24h",
    key = any_of(from_fn(no_key), order.id, derive("order", "create", order)),
    principal = order.id,
    on_abandoned = recover(ask),
    on_conflict = wait("1s"),
    fingerprint = fields("/id"),
    financial,
)]
async fn create(Json(order): Json<Order>) -> impl IntoResponse {
    order.id
}

#[idempotent_consumer(
    scope = "ship",
    key = any_of(order.id, derive("order", "ship", order)),
    payload = order,
    runtime = idempotency,
    on_abandoned = recover(ask),
    max_attempts = 3,
)]
async fn ship(idempotency: Idempotency, order: Order) -> std::result::Result<String, idem_runtime::ConsumeError> {
    drop(idempotency);
    Ok(order.id)
}

fn main() {
    let app = Router::new().route("/", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/", &[], r#"{"id":"a"}"#));
    let shipped = support::wait(ship(support::runtime(), Order { id: "b".to_owned() }));
    assert_eq!(shipped, Ok("b".to_owned()));
}
