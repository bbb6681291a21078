use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "24h"s, key = from_header)]
async fn create(body: String) -> String {
    body
}

fn main() {}
