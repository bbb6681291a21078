#[idempotent(scope = "transfers", key = from_header, financial, transaction)]
#[debug_handler(state = Bank)]
pub async fn transfer(mut tx: Tx<PostgresStore>, Json(req): Json<Transfer>) -> Result<Json<Receipt>, ApiError> {
    book(&mut tx, req).await
}
