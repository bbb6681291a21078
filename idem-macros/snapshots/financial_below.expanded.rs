#[doc(hidden)]
#[allow(non_camel_case_types)]
enum __idem_pay {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint for __idem_pay {
    type Arguments = (Bytes,);
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "payments",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .financial()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_pay {}
#[allow(private_interfaces)]
async fn pay(
    guarded: ::idem_runtime::private::Guarded<__idem_pay, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn pay(body: Bytes) {}
    guarded.run(|(a0,)| pay(a0)).await
}
