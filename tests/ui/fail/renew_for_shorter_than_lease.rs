use idem_runtime::idempotent;

#[idempotent(scope = "payments", renew_for = "20s")]
async fn create(body: String) -> String {
    body
}

fn main() {}
