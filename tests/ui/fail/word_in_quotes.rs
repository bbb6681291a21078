use idem_runtime::idempotent;

#[idempotent(scope = "payments", on_store_error = "reject")]
async fn create(body: String) -> String {
    body
}

fn main() {}
