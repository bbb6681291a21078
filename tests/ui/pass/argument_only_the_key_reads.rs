// An argument that only the attribute's expressions read is used: nobody is told to rename it.
#![deny(warnings)]

#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::{ConsumeError, Idempotency, idempotent, idempotent_consumer};

#[idempotent(scope = "checkout", key = derive("cart", "checkout", cart))]
async fn checkout(Path(cart): Path<u64>, _body: String) -> &'static str {
    "checked out"
}

#[idempotent(scope = "transfers", key = transfer, principal = account)]
async fn transfer(Path((account, transfer)): Path<(String, u64)>, _body: String) -> &'static str {
    "transferred"
}

#[idempotent(scope = "returns", key = format!("{account}-{order:>width$}-{:?}", item, width = 9), principal = account)]
async fn give_back(Path((account, order, item)): Path<(String, u64, u64)>, _body: String) -> &'static str {
    #![allow(clippy::all)]
    "given back"
}

#[idempotent_consumer(scope = "ship", key = format!("{shop:?}"), payload = order, runtime = idempotency)]
async fn ship(idempotency: Idempotency, shop: u64, order: u64) -> Result<(), ConsumeError> {
    Ok(())
}

fn main() {
    assert_eq!(support::wait(ship(support::runtime(), 1, 2)), Ok(()));
    let app = Router::new()
        .route("/carts/{cart}", post(checkout))
        .route("/accounts/{account}/transfers/{transfer}", post(transfer))
        .route("/accounts/{account}/orders/{order}/{item}", post(give_back))
        .with_state(support::runtime());
    support::runs_once(&app, || support::post("/carts/1", &[], ""));
    support::runs_once(&app, || support::post("/accounts/alice/transfers/1", &[], ""));
    support::runs_once(&app, || support::post("/accounts/alice/orders/1/2", &[], ""));
}
