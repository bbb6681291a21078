use idem_runtime::{FinancialRouter, Idempotency, idempotent};

#[idempotent(scope = "payments", key = from_header, missing = run)]
async fn create(body: String) -> String {
    body
}

fn main() {
    let _: FinancialRouter<Idempotency> = FinancialRouter::new().post("/payments", create);
}
