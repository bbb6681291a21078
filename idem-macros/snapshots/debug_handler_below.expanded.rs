#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (State<App>, Bytes)>,
) -> ::idem_runtime::private::Response {
    #[axum::debug_handler]
    async fn create(State(app): State<App>, body: Bytes) {}
    const _: fn() = ::idem_runtime::private::finds_runtime::<
        ::idem_runtime::private::FromState,
        App,
    >;
    __guarded.run(|(a0, a1)| create(a0, a1)).await
}
