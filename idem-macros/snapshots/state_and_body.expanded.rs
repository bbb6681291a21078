#[doc(hidden)]
#[allow(
    non_camel_case_types,
    missing_copy_implementations,
    missing_debug_implementations,
    unnameable_types
)]
pub(crate) enum __idem_create_payment {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(State<App>, Json<NewPayment>)>
for __idem_create_payment {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "payments",
        )
        .ttl(::core::time::Duration::from_millis(86400000))
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_create_payment {}
/// Charges a card.
pub(crate) async fn create_payment(
    _: (),
    __guarded: ::idem_runtime::private::Guarded<
        __idem_create_payment,
        (State<App>, Json<NewPayment>),
    >,
) -> ::idem_runtime::private::Response {
    #[tracing::instrument(skip_all)]
    async fn create_payment(
        State(app): State<App>,
        Json(mut req): Json<NewPayment>,
    ) -> Result<Json<Payment>, ApiError> {
        req.amount += app.fee;
        Ok(Json(app.charge(req).await?))
    }
    __guarded.run(|(a0, a1)| create_payment(a0, a1)).await
}
