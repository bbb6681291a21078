use idem_runtime::idempotent;

#[idempotent(scope = "")]
async fn create(body: String) -> String {
    body
}

fn main() {}
