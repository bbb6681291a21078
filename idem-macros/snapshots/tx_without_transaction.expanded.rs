#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
    __guarded: ::idem_runtime::private::Guarded<
        __idem_transfer,
        (my_crate::Tx<Postgres>,),
    >,
) -> ::idem_runtime::private::Response {
    async fn transfer(tx: my_crate::Tx<Postgres>) {}
    const _: () = {
        #[allow(unused_imports)]
        use ::idem_runtime::private::IsNoTx as _;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < my_crate::Tx < Postgres > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __guarded.run(|(a0,)| transfer(a0)).await
}
