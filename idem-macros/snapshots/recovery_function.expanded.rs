#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_pay {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_pay {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "payments",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .on_abandoned(
            ::idem_runtime::OnAbandoned::Recover(
                ::idem_runtime::Recover::new(|unsettled| ::idem_runtime::private::recovering(
                    provider::ask(unsettled),
                )),
            ),
        )
        .financial()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_pay {}
async fn pay(
    __guarded: ::idem_runtime::private::Guarded<__idem_pay, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn pay(body: Bytes) -> Response {
        charge(body).await
    }
    __guarded.run(|(a0,)| pay(a0)).await
}
