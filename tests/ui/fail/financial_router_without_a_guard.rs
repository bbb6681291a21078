use axum::extract::State;
use idem_runtime::{FinancialRouter, Idempotency};

async fn create(State(_): State<Idempotency>, body: String) -> String {
    body
}

fn main() {
    let _: FinancialRouter<Idempotency> = FinancialRouter::new().post("/payments", create);
}
