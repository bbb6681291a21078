use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header)]
async fn create(body: impl Into<String>) -> String {
    body.into()
}

fn main() {}
