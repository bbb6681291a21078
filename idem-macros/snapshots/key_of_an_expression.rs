#[idempotent(scope = "orders", key = format!("{}-{}", user.id, req.number))]
async fn create(user: User, Json(req): Json<NewOrder>) -> StatusCode {
    StatusCode::CREATED
}
