use idem_runtime::idempotent;

#[idempotent("payments")]
async fn create(body: String) -> String {
    body
}

fn main() {}
