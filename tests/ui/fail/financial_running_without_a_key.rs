use idem_runtime::idempotent;

#[idempotent(scope = "payments", financial, key = from_header, missing = run)]
async fn create(body: String) -> String {
    body
}

fn main() {}
