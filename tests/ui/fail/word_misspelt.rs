use idem_runtime::idempotent;

#[idempotent(scope = "payments", store = definitiv)]
async fn create(body: String) -> String {
    body
}

fn main() {}
