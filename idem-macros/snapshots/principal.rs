#[idempotent(scope = "orders", principal = user.account)]
async fn create(user: User, body: Bytes) {}
