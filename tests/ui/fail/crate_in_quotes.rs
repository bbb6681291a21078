use idem_runtime::idempotent;

#[idempotent(scope = "payments", crate = "idem_runtime")]
async fn create(body: String) -> String {
    body
}

fn main() {}
