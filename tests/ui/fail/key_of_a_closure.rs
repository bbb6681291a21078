use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_fn(|request| None))]
async fn create(body: String) -> String {
    body
}

fn main() {}
