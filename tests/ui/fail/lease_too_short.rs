use idem_runtime::idempotent;

#[idempotent(scope = "payments", lease = "1ms")]
async fn create(body: String) -> String {
    body
}

fn main() {}
