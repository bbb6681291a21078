use idem_runtime::idempotent;

#[idempotent(scope = "payments", keyspace = scope)]
async fn create(body: String) -> String {
    body
}

fn main() {}
