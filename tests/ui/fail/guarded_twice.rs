use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
#[idempotent(scope = "refunds")]
async fn create(body: String) -> String {
    body
}

fn main() {}
