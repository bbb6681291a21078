#[idempotent(scope = "checkout", key = derive("cart", "checkout", (cart, &req)))]
async fn checkout(Path(cart): Path<u64>, Json(req): Json<Checkout>) -> StatusCode {
    StatusCode::CREATED
}
