#[doc(hidden)]
#[allow(non_camel_case_types)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint for __idem_create {
    type Arguments = ();
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "reports",
        )
        .validate();
}
#[allow(private_interfaces)]
async fn create(
    guarded: ::idem_runtime::private::Guarded<__idem_create, ()>,
) -> ::idem_runtime::private::Response {
    async fn create() {}
    guarded.run(|()| create()).await
}
