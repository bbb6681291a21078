#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(
            &[
                ::idem_runtime::KeySource::Function(|__idem_request| ::idem_runtime::private::function_key(
                    &keys::from::<Order>(__idem_request),
                )),
            ],
        )
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
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
