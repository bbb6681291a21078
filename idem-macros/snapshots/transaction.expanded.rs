#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
    __guarded: ::idem_runtime::private::Transacted<
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
    __guarded.run(|(a0, a1)| transfer(a0, a1)).await
}
