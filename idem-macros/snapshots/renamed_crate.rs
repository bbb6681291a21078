#[idempotent(scope = "orders", key = any_of(from_fn(key), id), crate = crate::deps::idem)]
async fn create(Path(id): Path<u64>) {}
