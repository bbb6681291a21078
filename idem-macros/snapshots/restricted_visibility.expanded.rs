#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
pub(in crate::routes) enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .validate();
}
pub(in crate::routes) async fn create(
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn create(body: Bytes) {}
    __guarded.run(|(a0,)| create(a0)).await
}
