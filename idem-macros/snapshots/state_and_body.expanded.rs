#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
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
    __idem_guarded: ::idem_runtime::private::Guarded<
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
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < State < App > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Json < NewPayment > > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded
        .run(|(__idem_a0, __idem_a1)| create_payment(__idem_a0, __idem_a1))
        .await
}
