#[instrument]
#[idem_runtime::idempotent(scope = "payments", key = from_header)]
#[financial]
#[debug_handler]
async fn pay(body: Bytes) {}
