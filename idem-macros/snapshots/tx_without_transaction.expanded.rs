#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_transfer {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(my_crate::Tx<Postgres>,)> for __idem_transfer {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "transfers",
        )
        .validate();
}
async fn transfer(
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_transfer,
        (my_crate::Tx<Postgres>,),
    >,
) -> ::idem_runtime::private::Response {
    async fn transfer(tx: my_crate::Tx<Postgres>) {}
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < my_crate::Tx < Postgres > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| transfer(__idem_a0)).await
}
