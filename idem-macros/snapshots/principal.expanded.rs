#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(User, Bytes)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .validate();
    const PRINCIPAL: bool = true;
    fn principal(
        arguments: &(User, Bytes),
    ) -> ::core::option::Option<::idem_runtime::private::PrincipalText> {
        #[allow(unused_variables)]
        let (user, body) = arguments;
        ::idem_runtime::private::principal(&user.account)
    }
}
async fn create(
    _: (),
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (User, Bytes)>,
) -> ::idem_runtime::private::Response {
    async fn create(user: User, body: Bytes) {}
    __guarded.run(|(a0, a1)| create(a0, a1)).await
}
