use idem_runtime::{KeyRequest, idempotent};

fn key(request: &KeyRequest<'_>) -> f64 {
    request.body.len() as f64
}

#[idempotent(scope = "payments", key = from_fn(key))]
async fn create(body: String) -> String {
    body
}

fn main() {}
