#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_create, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn create(body: Bytes) {}
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| create(__idem_a0)).await
}
