use idem_runtime::idempotent;

#[idempotent(scope = "my payments")]
async fn create(body: String) -> String {
    body
}

fn main() {}
