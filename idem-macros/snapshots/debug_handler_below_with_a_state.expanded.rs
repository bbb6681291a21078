#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
    __guarded: ::idem_runtime::private::Guarded<
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
    __guarded.run(|(a0, a1, a2)| create(a0, a1, a2)).await
}
