async fn count<'a, S: Sink + 'a>(
    idempotency: &Idempotency,
    sink: &'a mut S,
    id: Option<u64>,
) -> Result<(), S::Error>
where
    S::Error: From<ConsumeError>,
{
    let __idem_policy = const {
        &crate::idem::Policy::new("count")
            .key(&[crate::idem::KeySource::Arguments])
            .missing(crate::idem::Missing::Run)
            .fingerprint(crate::idem::FingerprintRule::Off)
            .validate()
    };
    let __idem_runtime = crate::idem::private::runtime(&idempotency);
    let __idem_key = crate::idem::private::argument_key(&id);
    let __idem_payload = crate::idem::private::no_payload();
    crate::idem::private::consume_in_place(
            __idem_runtime,
            __idem_policy,
            __idem_key,
            __idem_payload,
            move || async move {
                if let ::core::option::Option::Some(__idem_returned) = ::core::option::Option::None::<
                    Result<(), S::Error>,
                > {
                    return __idem_returned;
                }
                sink.add(1).await
            },
        )
        .await
}
