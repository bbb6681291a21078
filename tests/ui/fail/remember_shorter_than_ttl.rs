use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "7d", remember = "6d")]
async fn create(body: String) -> String {
    body
}

fn main() {}
