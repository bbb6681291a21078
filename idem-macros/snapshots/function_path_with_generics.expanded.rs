#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(
            &[
                ::idem_runtime::KeySource::Function(|request| ::idem_runtime::private::function_key(
                    &keys::from::<Order>(request),
                )),
            ],
        )
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn create(body: Bytes) {}
    __guarded.run(|(a0,)| create(a0)).await
}
