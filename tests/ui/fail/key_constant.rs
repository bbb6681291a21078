use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = "X-Event-Id")]
async fn create(body: String) -> String {
    body
}

fn main() {}
