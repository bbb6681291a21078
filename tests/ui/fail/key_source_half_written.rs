use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = header)]
async fn create(body: String) -> String {
    body
}

fn main() {}
