use idem_runtime::{FinancialRouter, Idempotency, idempotent};

#[idempotent(scope = "payments")]
async fn create(body: String) -> String {
    body
}

fn main() {
    let _: FinancialRouter<Idempotency> = FinancialRouter::new().post("/payments", create);
}
