use idem_runtime::{financial, idempotent};

#[financial]
#[idempotent(scope = "payments", missing = run, ttl = "1h", fingerprint = off, on_store_error = run)]
async fn create(body: String) -> String {
    body
}

fn main() {}
