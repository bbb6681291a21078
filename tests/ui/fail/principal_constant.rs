use idem_runtime::idempotent;

#[idempotent(scope = "payments", principal = "me")]
async fn create(body: String) -> String {
    body
}

fn main() {}
