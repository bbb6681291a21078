#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<()> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "reports",
        )
        .validate();
}
async fn create(
    __guarded: ::idem_runtime::private::Guarded<__idem_create, ()>,
) -> ::idem_runtime::private::Response {
    async fn create() {}
    __guarded.run(|()| create()).await
}
