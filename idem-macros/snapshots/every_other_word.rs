#[idempotent(
    scope = "reports",
    missing = run,
    key_space = endpoint,
    fingerprint = fields("/amount", "/currency"),
    store = all,
    on_conflict = reject,
    on_abandoned = retry,
    on_store_error = run,
    runtime = state,
)]
async fn report(body: Bytes) {}
