#[idempotent(scope = "orders")]
pub(in crate::routes) async fn create(body: Bytes) {}
