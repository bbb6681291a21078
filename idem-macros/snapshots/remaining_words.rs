#[idempotent(scope = "reports", fingerprint = off, store = success, runtime = extension)]
async fn report(body: Bytes) {}
