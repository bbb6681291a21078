use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = ("k"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
