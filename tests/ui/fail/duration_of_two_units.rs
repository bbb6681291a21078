use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "1h 30m")]
async fn create(body: String) -> String {
    body
}

fn main() {}
