#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_checkout {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Path<u64>, Json<Checkout>)> for __idem_checkout {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "checkout",
        )
        .key(&[::idem_runtime::KeySource::Arguments])
        .validate();
    fn argument_key(
        __idem_arguments: &(Path<u64>, Json<Checkout>),
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        let (Path(cart), Json(req)) = __idem_arguments;
        let _ = (&cart, &req);
        match __idem_source {
            0 => {
                ::idem_runtime::private::derived_key(&"cart", &"checkout", &(cart, &req))
            }
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_checkout {}
async fn checkout(
    _: (),
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_checkout,
        (Path<u64>, Json<Checkout>),
    >,
) -> ::idem_runtime::private::Response {
    async fn checkout(Path(cart): Path<u64>, Json(req): Json<Checkout>) -> StatusCode {
        let _ = (&cart, &req);
        StatusCode::CREATED
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Path < u64 > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < Checkout > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0, __idem_a1)| checkout(__idem_a0, __idem_a1)).await
}
