use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = any_of(from_header, chrono::Utc::now().timestamp()))]
async fn create(body: String) -> String {
    body
}

fn main() {}
