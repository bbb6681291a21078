#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(State<Db>, State<Mail>, Bytes)>
for __idem_create {
    type Runtime = ::idem_runtime::private::FromExtension;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .validate();
}
async fn create(
    _: (),
    _: (),
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_create,
        (State<Db>, State<Mail>, Bytes),
    >,
) -> ::idem_runtime::private::Response {
    #[debug_handler(state = App<Db>)]
    async fn create(State(db): State<Db>, State(mail): State<Mail>, body: Bytes) {}
    const _: fn() = ::idem_runtime::private::finds_runtime::<
        ::idem_runtime::private::FromExtension,
        App<Db>,
    >;
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < State < Db > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < State < Mail > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded
        .run(|(__idem_a0, __idem_a1, __idem_a2)| create(__idem_a0, __idem_a1, __idem_a2))
        .await
}
