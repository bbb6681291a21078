#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Json<NewOrder>,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (Json<NewOrder>,)>,
) -> ::idem_runtime::private::Response {
    async fn create(Json(order): Json<NewOrder>) -> Json<Order> {
        Json(store(order).await)
    }
    __guarded.run(|(a0,)| create(a0)).await
}
