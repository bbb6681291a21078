#[path = "../support.rs"]
mod support;

use axum::Router;
use idem_runtime::{FinancialRouter, Idempotency, financial, idempotent};

#[idempotent(scope = "flag", key = from_header, financial)]
async fn flag(body: String) -> String {
    body
}

#[financial]
#[idempotent(scope = "above", key = from_header)]
async fn above(_: (), body: String) -> String {
    body
}

#[idem_runtime::financial]
/// Documented.
#[idem_runtime::idempotent(scope = "above", key = from_header, ttl = "48h")]
async fn far_above(_: (), _: (), body: String) -> String {
    body
}

#[idempotent(scope = "below", key = from_header, on_abandoned = retry)]
#[financial]
async fn below() -> &'static str {
    "paid"
}

#[idempotent(scope = "both", key = from_header, financial)]
#[financial]
async fn both(body: String) -> String {
    body
}

fn main() {
    let router: FinancialRouter<Idempotency> = FinancialRouter::new()
        .post("/flag", flag)
        .put("/above", above)
        .post("/far-above", far_above)
        .post("/below", below)
        .post("/both", both)
        .get("/", async || "unguarded, and changes nothing");
    let app: Router = router.into_router().with_state(support::runtime());
    for uri in ["/flag", "/far-above", "/below", "/both"] {
        support::runs_once(&app, || support::post(uri, &[("idempotency-key", "k")], "a"));
    }
}
