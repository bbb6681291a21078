use idem_runtime::idempotent;

#[idempotent(scope = "payments", transaction)]
async fn create(body: String) -> String {
    body
}

fn main() {}
