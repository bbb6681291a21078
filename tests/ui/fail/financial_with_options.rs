use idem_runtime::{financial, idempotent};

#[financial(ttl = "24h")]
#[idempotent(scope = "payments", key = from_header)]
async fn create(body: String) -> String {
    body
}

fn main() {}
