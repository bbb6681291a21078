use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "1.5h")]
async fn create(body: String) -> String {
    body
}

fn main() {}
