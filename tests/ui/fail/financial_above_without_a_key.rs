use idem_runtime::{financial, idempotent};

#[financial]
#[idempotent(scope = "payments")]
async fn create(body: String) -> String {
    body
}

fn main() {}
