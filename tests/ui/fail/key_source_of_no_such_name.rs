use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_json("/id"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
