/// Charges a card.
#[idempotent(scope = "payments", ttl = "24h", key = from_header)]
#[tracing::instrument(skip_all)]
pub(crate) async fn create_payment(
    State(app): State<App>,
    Json(mut req): Json<NewPayment>,
) -> Result<Json<Payment>, ApiError> {
    req.amount += app.fee;
    Ok(Json(app.charge(req).await?))
}
