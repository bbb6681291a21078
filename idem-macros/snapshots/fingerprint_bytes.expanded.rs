#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_report, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn report(body: Bytes) {}
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| report(__idem_a0)).await
}
