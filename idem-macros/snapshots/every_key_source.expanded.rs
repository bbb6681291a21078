#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
                ::idem_runtime::KeySource::Function(|__idem_request| ::idem_runtime::private::function_key(
                    &keys::of_order(__idem_request),
                )),
                ::idem_runtime::KeySource::Arguments,
                ::idem_runtime::KeySource::Arguments,
            ],
        )
        .validate();
    fn argument_key(
        __idem_arguments: &(User, Json<NewOrder>),
        __idem_source: ::core::primitive::usize,
    ) -> ::idem_runtime::private::ArgumentKey {
        let (user, Json(req)) = __idem_arguments;
        let _ = (&user, &req);
        match __idem_source {
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
    __idem_guarded: ::idem_runtime::private::Guarded<
        __idem_create,
        (User, Json<NewOrder>),
    >,
) -> ::idem_runtime::private::Response {
    async fn create(user: User, Json(req): Json<NewOrder>) -> StatusCode {
        let _ = (&user, &req);
        StatusCode::CREATED
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < User > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < NewOrder > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0, __idem_a1)| create(__idem_a0, __idem_a1)).await
}
