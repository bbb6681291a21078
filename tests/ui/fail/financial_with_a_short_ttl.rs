use idem_runtime::idempotent;

#[idempotent(scope = "payments", financial, key = from_header, ttl = "1h")]
async fn create(body: String) -> String {
    body
}

fn main() {}
