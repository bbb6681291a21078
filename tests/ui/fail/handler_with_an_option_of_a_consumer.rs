use idem_runtime::idempotent;

#[idempotent(scope = "payments", max_attempts = 3, payload = body)]
async fn create(body: String) -> String {
    body
}

fn main() {}
