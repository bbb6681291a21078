#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(State<App>, Bytes)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    _: (),
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_create, (State<App>, Bytes)>,
) -> ::idem_runtime::private::Response {
    #[axum::debug_handler]
    async fn create(State(app): State<App>, body: Bytes) {}
    const _: fn() = ::idem_runtime::private::finds_runtime::<
        ::idem_runtime::private::FromState,
        App,
    >;
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < State < App > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0, __idem_a1)| create(__idem_a0, __idem_a1)).await
}
