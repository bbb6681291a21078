#[idempotent(scope = "orders", principal = user.account, key = any_of(from_header, req.id))]
async fn create(user: User, Json(req): Json<NewOrder>) {}
