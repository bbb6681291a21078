#[idempotent(
    scope = "orders",
    key = any_of(
        from_header,
        from_header("X-Event-Id"),
        from_path("id"),
        from_query("token"),
        from_body("/order/id"),
        from_fn(keys::of_order),
        req.id,
        derive("order", "create", (user.id, &req.items)),
    ),
)]
async fn create(user: User, Json(req): Json<NewOrder>) -> StatusCode {
    StatusCode::CREATED
}
