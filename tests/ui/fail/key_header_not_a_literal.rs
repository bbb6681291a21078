use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header(1))]
async fn create(body: String) -> String {
    body
}

fn main() {}
