use idem_runtime::idempotent;

#[idempotent(scope: "payments", key: from_header)]
async fn create(body: String) -> String {
    body
}

fn main() {}
