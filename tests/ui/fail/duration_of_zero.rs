use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "0s")]
async fn create(body: String) -> String {
    body
}

fn main() {}
