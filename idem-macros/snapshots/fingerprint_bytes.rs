#[idempotent(scope = "reports", fingerprint = bytes)]
async fn report(body: Bytes) {}
