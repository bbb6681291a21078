#[idempotent(scope = "orders", key = from_fn(keys::from::<Order>))]
async fn create(body: Bytes) {}
