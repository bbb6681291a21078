#[idempotent(scope = "payments", key = from_header, financial, on_abandoned = recover(provider::ask))]
async fn pay(body: Bytes) -> Response {
    charge(body).await
}
