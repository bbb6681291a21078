use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_body("/order~id"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
