use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl = "h")]
async fn create(body: String) -> String {
    body
}

fn main() {}
