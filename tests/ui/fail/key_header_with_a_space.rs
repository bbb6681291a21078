use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_header("X Request Id"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
