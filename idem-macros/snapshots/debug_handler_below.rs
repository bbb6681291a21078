#[idempotent(scope = "orders", key = from_header)]
#[axum::debug_handler]
async fn create(State(app): State<App>, body: Bytes) {}
