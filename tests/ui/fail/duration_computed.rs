use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = std::time::Duration::from_secs(5))]
async fn create(body: String) -> String {
    body
}

fn main() {}
