#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
                ::idem_runtime::Recover::new(|__idem_unsettled| ::idem_runtime::private::recovering(
                    provider::ask(__idem_unsettled),
                )),
            ),
        )
        .financial()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_pay {}
async fn pay(
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_pay, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn pay(body: Bytes) -> Response {
        charge(body).await
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| pay(__idem_a0)).await
}
