// An argument that only the attribute's expressions read is used: nobody is told to rename it.
#![deny(warnings)]

#[path = "../support.rs"]
mod support;

use axum::{Router, extract::Path, routing::post};
use idem_runtime::idempotent;

#[idempotent(scope = "checkout", key = derive("cart", "checkout", cart))]
async fn checkout(Path(cart): Path<u64>, _body: String) -> &'static str {
    "checked out"
}

#[idempotent(scope = "transfers", key = transfer, principal = account)]
async fn transfer(Path((account, transfer)): Path<(String, u64)>, _body: String) -> &'static str {
    "transferred"
}

fn main() {
    let app = Router::new()
        .route("/carts/{cart}", post(checkout))
        .route("/accounts/{account}/transfers/{transfer}", post(transfer))
        .with_state(support::runtime());
    support::runs_once(&app, || support::post("/carts/1", &[], ""));
    support::runs_once(&app, || support::post("/accounts/alice/transfers/1", &[], ""));
}
