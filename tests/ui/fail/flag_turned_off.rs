use idem_runtime::idempotent;

#[idempotent(scope = "payments", financial = false)]
async fn create(body: String) -> String {
    body
}

fn main() {}
