use idem_runtime::{KeyRequest, idempotent};

fn my_fingerprint(request: &KeyRequest<'_>) -> String {
    String::from_utf8_lossy(request.body).into_owned()
}

#[idempotent(scope = "payments", fingerprint = from_fn(my_fingerprint))]
async fn create(body: String) -> String {
    body
}

fn main() {}
