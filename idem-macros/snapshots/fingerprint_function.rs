#[idempotent(scope = "uploads", key = from_header, financial, fingerprint = from_fn(form::parts))]
async fn upload(body: Bytes) -> Response {
    keep(body).await
}
