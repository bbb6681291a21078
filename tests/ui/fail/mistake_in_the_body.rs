use idem_runtime::idempotent;

#[idempotent(scope = "payments")]
async fn create(body: String) -> &'static str {
    body
}

fn main() {}
