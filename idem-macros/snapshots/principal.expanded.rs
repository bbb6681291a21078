#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(User, Bytes)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .validate();
    const PRINCIPAL: ::core::primitive::bool = true;
    fn principal(
        __idem_arguments: &(User, Bytes),
    ) -> ::core::option::Option<::idem_runtime::private::PrincipalText> {
        let (user, body) = __idem_arguments;
        let _ = (&user, &body);
        ::idem_runtime::private::principal(&user.account)
    }
}
async fn create(
    _: (),
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_create, (User, Bytes)>,
) -> ::idem_runtime::private::Response {
    async fn create(user: User, body: Bytes) {
        let _ = (&user,);
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < User > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0, __idem_a1)| create(__idem_a0, __idem_a1)).await
}
