use idem_runtime::idempotent;

#[idempotent(scope = "payments", store = success | definitive)]
async fn create(body: String) -> String {
    body
}

fn main() {}
