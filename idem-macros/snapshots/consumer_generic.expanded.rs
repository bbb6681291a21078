async fn count<'a, S: Sink + 'a>(
    idempotency: &Idempotency,
    sink: &'a mut S,
    id: Option<u64>,
) -> Result<(), S::Error>
where
    S::Error: From<ConsumeError>,
{
    const __IDEM_POLICY: &crate::idem::Policy = &crate::idem::Policy::new("count")
        .key(&[crate::idem::KeySource::Arguments])
        .missing(crate::idem::Missing::Run)
        .fingerprint(crate::idem::FingerprintRule::Off)
        .validate();
    let runtime = crate::idem::private::runtime(&idempotency);
    let key = crate::idem::private::argument_key(&id);
    let payload = crate::idem::private::no_payload();
    crate::idem::private::consume_in_place(
            runtime,
            __IDEM_POLICY,
            key,
            payload,
            move || async move {
                #[allow(unreachable_code, clippy::diverging_sub_expression)]
                if let ::core::option::Option::Some(returned) = ::core::option::Option::None::<
                    Result<(), S::Error>,
                > {
                    return returned;
                }
                sink.add(1).await
            },
        )
        .await
}
