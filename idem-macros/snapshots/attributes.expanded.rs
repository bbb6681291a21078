#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
#[allow(deprecated, clippy::unused_async)]
#[allow(unused_mut)]
pub enum __idem_create {}
#[allow(deprecated, clippy::unused_async)]
#[allow(unused_mut)]
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Json<NewOrder>,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        arguments: &(Json<NewOrder>,),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Json(req),) = arguments;
        match source {
            0 => ::idem_runtime::private::argument_key(&req.legacy_id),
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
/// Makes an order.
///
/// # Errors
/// When there is no stock.
#[deprecated = "use `create_order`"]
#[must_use]
#[allow(deprecated, clippy::unused_async)]
#[expect(unused_mut)]
#[deny(unused_variables)]
pub async fn create(
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (Json<NewOrder>,)>,
) -> ::idem_runtime::private::Response {
    #[instrument(skip_all)]
    #[inline]
    async fn create(#[allow(unused)] Json(mut req): Json<NewOrder>) -> StatusCode {
        #![allow(unreachable_code)]
        StatusCode::CREATED
    }
    __guarded.run(|(a0,)| create(a0)).await
}
