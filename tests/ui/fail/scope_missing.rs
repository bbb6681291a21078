use idem_runtime::idempotent;

#[idempotent(ttl = "24h")]
async fn create(body: String) -> String {
    body
}

fn main() {}
