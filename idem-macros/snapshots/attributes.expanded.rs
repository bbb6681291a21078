#[doc(hidden)]
#[allow(non_camel_case_types)]
enum __idem_create {}
#[allow(deprecated, clippy::unused_async)]
#[allow(unused_mut)]
#[automatically_derived]
impl ::idem_runtime::private::Endpoint for __idem_create {
    type Arguments = (Json<NewOrder>,);
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        arguments: &Self::Arguments,
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Json(req),) = arguments;
        match source {
            0 => ::idem_runtime::private::argument_key(&(req.legacy_id)),
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
#[allow(private_interfaces)]
pub async fn create(
    guarded: ::idem_runtime::private::Guarded<__idem_create, (Json<NewOrder>,)>,
) -> ::idem_runtime::private::Response {
    #[instrument(skip_all)]
    #[inline]
    async fn create(#[allow(unused)] Json(mut req): Json<NewOrder>) -> StatusCode {
        #![allow(unreachable_code)]
        StatusCode::CREATED
    }
    guarded.run(|(a0,)| create(a0)).await
}
