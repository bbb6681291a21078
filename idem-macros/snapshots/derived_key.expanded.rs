#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
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
        arguments: &(Path<u64>, Json<Checkout>),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (Path(cart), Json(req)) = arguments;
        match source {
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
    __guarded: ::idem_runtime::private::Guarded<
        __idem_checkout,
        (Path<u64>, Json<Checkout>),
    >,
) -> ::idem_runtime::private::Response {
    async fn checkout(Path(cart): Path<u64>, Json(req): Json<Checkout>) -> StatusCode {
        StatusCode::CREATED
    }
    __guarded.run(|(a0, a1)| checkout(a0, a1)).await
}
