use idem_runtime::idempotent;

#[idempotent(scope = payments)]
async fn create(body: String) -> String {
    body
}

fn main() {}
