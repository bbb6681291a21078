use idem_runtime::{KeyRequest, idempotent};

async fn my_key(_: &KeyRequest<'_>) -> Option<String> {
    None
}

#[idempotent(scope = "payments", key = from_fn(my_key))]
async fn create(body: String) -> String {
    body
}

fn main() {}
