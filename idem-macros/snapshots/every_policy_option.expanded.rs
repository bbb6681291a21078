#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
pub enum __idem_pay {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_pay {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "payments",
        )
        .ttl(::core::time::Duration::from_millis(604800000))
        .remember(::core::time::Duration::from_millis(2592000000))
        .key(&[::idem_runtime::KeySource::Header("x-event-id")])
        .missing(::idem_runtime::Missing::Reject)
        .key_space(::idem_runtime::KeySpace::Scope)
        .fingerprint(::idem_runtime::FingerprintRule::Json)
        .store(::idem_runtime::StoreRule::Definitive)
        .on_conflict(
            ::idem_runtime::OnConflict::Wait(::core::time::Duration::from_millis(5000)),
        )
        .lease(::core::time::Duration::from_millis(500))
        .on_abandoned(::idem_runtime::OnAbandoned::Refuse)
        .on_store_error(::idem_runtime::OnStoreError::Reject)
        .financial()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_pay {}
pub async fn pay(
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_pay, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn pay(body: Bytes) -> impl IntoResponse {
        charge(body).await
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| pay(__idem_a0)).await
}
