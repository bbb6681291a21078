use idem_runtime::idempotent;

#[idempotent(scope = "payments", fingerprint = fields())]
async fn create(body: String) -> String {
    body
}

fn main() {}
