use idem_runtime::idempotent;

#[idempotent(scope = "payments", missing = ignore)]
async fn create(body: String) -> String {
    body
}

fn main() {}
