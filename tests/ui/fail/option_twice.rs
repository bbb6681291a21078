use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "24h", ttl = "48h")]
async fn create(body: String) -> String {
    body
}

fn main() {}
