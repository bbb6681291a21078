#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_create, ()>,
) -> ::idem_runtime::private::Response {
    async fn create() {}
    __idem_guarded.run(|()| create()).await
}
