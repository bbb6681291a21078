use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = any_of(from_header, from_header("Idempotency-Key")))]
async fn create(body: String) -> String {
    body
}

fn main() {}
