use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = body.parse().unwrap_or_else(|_| rand::random::<u64>()))]
async fn create(body: String) -> String {
    body
}

fn main() {}
