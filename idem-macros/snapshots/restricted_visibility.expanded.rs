#[doc(hidden)]
#[allow(non_camel_case_types)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint for __idem_create {
    type Arguments = (Bytes,);
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .validate();
}
#[allow(private_interfaces)]
pub(in crate::routes) async fn create(
    guarded: ::idem_runtime::private::Guarded<__idem_create, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn create(body: Bytes) {}
    guarded.run(|(a0,)| create(a0)).await
}
