use idem_runtime::idempotent;

#[idempotent(scope = "payments", financial, key = from_header, fingerprint = off)]
async fn create(body: String) -> String {
    body
}

fn main() {}
