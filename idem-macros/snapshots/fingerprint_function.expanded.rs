#[doc(hidden)]
#[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
#[non_exhaustive]
enum __idem_upload {}
#[automatically_derived]
impl ::idem_runtime::private::Endpoint<(Bytes,)> for __idem_upload {
    type Runtime = ::idem_runtime::private::FromState;
    const POLICY: &'static ::idem_runtime::Policy = &::idem_runtime::Policy::new(
            "uploads",
        )
        .key(&[::idem_runtime::KeySource::Header("idempotency-key")])
        .fingerprint(
            ::idem_runtime::FingerprintRule::Function(|__idem_request| ::idem_runtime::private::function_fingerprint(
                form::parts(__idem_request),
            )),
        )
        .financial()
        .validate();
}
#[automatically_derived]
impl ::idem_runtime::private::KeyChosen for __idem_upload {}
async fn upload(
    __idem_guarded: ::idem_runtime::private::Guarded<__idem_upload, (Bytes,)>,
) -> ::idem_runtime::private::Response {
    async fn upload(body: Bytes) -> Response {
        keep(body).await
    }
    const _: () = {
        use ::idem_runtime::private::IsNoTx as _;
        let _ = ::idem_runtime::private::IsTx::<()>::YES;
        ::core::assert!(
            ! ::idem_runtime::private::IsTx:: < Bytes > ::YES,
            "`Tx` is the transaction of a handler under `transaction`: write `#[idempotent(.., transaction)]`",
        );
    };
    __idem_guarded.run(|(__idem_a0,)| upload(__idem_a0)).await
}
