#[idempotent(
    scope = "payments",
    ttl = "7d",
    remember = "30d",
    key = from_header("X-Event-Id"),
    missing = reject,
    key_space = scope,
    fingerprint = json,
    store = definitive,
    on_conflict = wait("5s"),
    lease = "500ms",
    on_abandoned = refuse,
    on_store_error = reject,
    financial,
)]
pub async fn pay(body: Bytes) -> impl IntoResponse {
    charge(body).await
}
