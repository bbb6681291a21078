//! Generated code lifts none of a crate's rules: what is forbidden cannot be allowed again.
#![forbid(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    non_camel_case_types,
    unnameable_types,
    unreachable_code,
    unused_braces,
    unused_imports,
    unused_variables
)]

#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::{ConsumeError, Idempotency, idempotent, idempotent_consumer};

/// Makes an order.
#[idempotent(scope = "orders", key = id, principal = shop)]
pub async fn create(Path((shop, id)): Path<(String, u64)>, body: String) -> String {
    format!("{shop} {id} {body}")
}

/// Ships an order.
///
/// # Errors
/// When it is refused.
#[idempotent_consumer(scope = "ship", key = id, payload = id, runtime = idempotency)]
pub async fn ship(idempotency: Idempotency, id: u64) -> Result<u64, ConsumeError> {
    drop(idempotency);
    Ok(id)
}

fn main() {
    let app = Router::new().route("/{shop}/{id}", post(create)).with_state(support::runtime());
    support::runs_once(&app, || support::post("/x/1", &[], "a"));
    assert_eq!(support::wait(ship(support::runtime(), 7)), Ok(7));
}
