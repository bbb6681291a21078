use idem_runtime::idempotent;

#[idempotent(scope = "payments", key = from_headers("X-Event-Id"))]
async fn create(body: String) -> String {
    body
}

fn main() {}
