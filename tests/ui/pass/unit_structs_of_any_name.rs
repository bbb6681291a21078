//! A pattern of one word is a unit struct if there is one, such as diesel's `table!` makes of columns.
#![allow(dead_code, non_camel_case_types, unused_imports)]

#[path = "../support.rs"]
mod support;

use axum::{Router, routing::post};
use columns::*;
use idem_runtime::{
    ConsumeError, Idempotency, KeyRequest, Settlement, Unsettled, idempotent, idempotent_consumer,
};

mod columns {
    macro_rules! columns {
        ($($name:ident)*) => {$(pub struct $name;)*};
    }
    columns!(a0 a1 arguments guarded key payload policy request returned runtime source unsettled);
}

async fn ask(_: Unsettled) -> Option<Settlement> {
    None
}

fn no_key(_: &KeyRequest<'_>) -> Option<String> {
    None
}

#[idempotent(
    scope = "orders", key = any_of(from_fn(no_key), body), principal = body, on_abandoned = recover(ask)
)]
async fn create(body: String) -> String {
    body
}

// As the argument of a guarded handler is called.
#[idempotent(scope = "guarded", key = from_header)]
async fn __guarded(__guarded: String) -> String {
    __guarded
}

#[idempotent_consumer(scope = "ship", key = id, payload = id, runtime = idempotency, on_abandoned = recover(ask))]
async fn ship(idempotency: Idempotency, id: u64) -> Result<u64, ConsumeError> {
    drop(idempotency);
    Ok(id)
}

fn main() {
    let app = Router::new()
        .route("/", post(create))
        .route("/guarded", post(__guarded))
        .with_state(support::runtime());
    support::runs_once(&app, || support::post("/", &[], "a"));
    assert_eq!(support::wait(ship(support::runtime(), 7)), Ok(7));
}
