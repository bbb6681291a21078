#[financial]
#[instrument]
#[idem_runtime::idempotent(scope = "payments", key = from_header)]
#[debug_handler]
async fn pay(body: Bytes) {}
