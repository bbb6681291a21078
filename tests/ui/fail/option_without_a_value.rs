use idem_runtime::idempotent;

#[idempotent(scope = "payments", ttl)]
async fn create(body: String) -> String {
    body
}

fn main() {}
