#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
enum __idem_create {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(User, Json<NewOrder>)> for __idem_create {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "orders",
        )
        .key(
            &[
                ::idem_runtime::KeySource::Header("idempotency-key"),
                ::idem_runtime::KeySource::Header("x-event-id"),
                ::idem_runtime::KeySource::Path("id"),
                ::idem_runtime::KeySource::Query("token"),
                ::idem_runtime::KeySource::Body("/order/id"),
                ::idem_runtime::KeySource::Function(|request| ::idem_runtime::private::function_key(
                    &keys::of_order(request),
                )),
                ::idem_runtime::KeySource::Arguments,
                ::idem_runtime::KeySource::Arguments,
            ],
        )
        .validate();
    fn argument_key(
        arguments: &(User, Json<NewOrder>),
        source: usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        #[allow(unused_variables)]
        let (user, Json(req)) = arguments;
        match source {
            6 => ::idem_runtime::private::argument_key(&req.id),
            7 => {
                ::idem_runtime::private::derived_key(
                    &"order",
                    &"create",
                    &(user.id, &req.items),
                )
            }
            _ => ::idem_runtime::private::ArgumentKey::Absent,
        }
    }
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create {}
async fn create(
    _: (),
    __guarded: ::idem_runtime::private::Guarded<__idem_create, (User, Json<NewOrder>)>,
) -> ::idem_runtime::private::Response {
    async fn create(user: User, Json(req): Json<NewOrder>) -> StatusCode {
        StatusCode::CREATED
    }
    __guarded.run(|(a0, a1)| create(a0, a1)).await
}
