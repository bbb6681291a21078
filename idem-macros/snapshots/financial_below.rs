#[idempotent(scope = "payments", key = from_header)]
#[financial]
async fn pay(body: Bytes) {}
