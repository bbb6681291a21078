use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_headers("X-Request-Id"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
