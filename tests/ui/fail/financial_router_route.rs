use axum::routing::post;
use idem_runtime::{FinancialRouter, Idempotency, idempotent};

#[idempotent(scope = "payments", key = from_header, financial)]
async fn create(body: String) -> String {
    body
}

fn main() {
    let _: FinancialRouter<Idempotency> = FinancialRouter::new().route("/payments", post(create));
}
