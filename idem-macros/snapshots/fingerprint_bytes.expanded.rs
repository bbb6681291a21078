#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_report {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_report {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "reports",
        )
        .fingerprint(::idem_runtime::FingerprintRule::Bytes)
        .validate();
}
async fn report(
    __guarded: ::idem_runtime::private::Guarded<__idem_report, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn report(body: Bytes) {}
    __guarded.run(|(a0,)| report(a0)).await
}
