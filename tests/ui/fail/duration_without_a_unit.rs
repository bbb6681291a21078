use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "24")]
async fn create(body: String) -> String {
    body
}

fn main() {}
