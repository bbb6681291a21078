use idem_runtime::idempotent;

#[idempotent(scope = "payments")]
#[idem_runtime::financial]
async fn create(body: String) -> String {
    body
}

fn main() {}
