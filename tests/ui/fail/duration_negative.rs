use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "-5m")]
async fn create(body: String) -> String {
    body
}

fn main() {}
