#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
pub enum __idem_transfer {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Tx<PostgresStore>, Json<Transfer>)>
for __idem_transfer {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "transfers",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .financial()
        .transaction()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_transfer {}
pub async fn transfer(
    _: (),
    __idem_guarded: ::idem_runtime::private::Transacted<
        __idem_transfer,
        (Tx<PostgresStore>, Json<Transfer>),
        Tx<PostgresStore>,
    >,
) -> ::idem_runtime::private::Response {
    #[debug_handler(state = Bank)]
    async fn transfer(
        mut tx: Tx<PostgresStore>,
        Json(req): Json<Transfer>,
    ) -> Result<Json<Receipt>, ApiError> {
        book(&mut tx, req).await
    }
    const _: fn() = ::idem_runtime::private::finds_runtime::<
        ::idem_runtime::private::FromState,
        Bank,
    >;
    const _: fn() = ::idem_runtime::private::finds_store::<Tx<PostgresStore>, Bank>;
    __idem_guarded.run(|(__idem_a0, __idem_a1)| transfer(__idem_a0, __idem_a1)).await
}
