use idem_runtime::idempotent;

#[idempotent(scope = "payments", financial)]
async fn create(body: String) -> String {
    body
}

fn main() {}
