use idem_runtime::{Fingerprint, KeyRequest, idempotent};

async fn my_fingerprint(request: &KeyRequest<'_>) -> Fingerprint {
    Fingerprint::of_bytes(request.body)
}

#[idempotent(scope = "payments", fingerprint = from_fn(my_fingerprint))]
async fn create(body: String) -> String {
    body
}

fn main() {}
