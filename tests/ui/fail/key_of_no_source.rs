use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = any_of())]
async fn create(body: String) -> String {
    body
}

fn main() {}
