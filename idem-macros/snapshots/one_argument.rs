#[idempotent(scope = "orders", key = from_header)]
async fn create(Json(order): Json<NewOrder>) -> Json<Order> {
    Json(store(order).await)
}
