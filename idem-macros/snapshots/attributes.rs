/// Makes an order.
///
/// # Errors
/// When there is no stock.
#[idempotent(scope = "orders", key = req.legacy_id)]
#[deprecated = "use `create_order`"]
#[must_use]
#[allow(deprecated, clippy::unused_async)]
#[expect(unused_mut)]
#[deny(unused_variables)]
#[instrument(skip_all)]
#[inline]
pub async fn create(#[allow(unused)] Json(mut req): Json<NewOrder>) -> StatusCode {
    #![allow(unreachable_code)]
    StatusCode::CREATED
}
