async fn charge(State(app): State<App>, mut event: Event) -> anyhow::Result<u64> {
    const __IDEM_POLICY: &::idem_runtime::Policy = &::idem_runtime::Policy::new("charge")
        .key(
            &[::idem_runtime::KeySource::Arguments, ::idem_runtime::KeySource::Arguments],
        )
        .financial()
        .max_attempts(3)
        .validate();
    let runtime = ::idem_runtime::private::runtime(&app.idempotency);
    let key = ::idem_runtime::private::argument_key(&event.id)
        .or_else(|| ::idem_runtime::private::derived_key(
            &"order",
            &"charge",
            &event.order,
        ));
    let payload = ::idem_runtime::private::bytes_payload(&event.raw);
    ::idem_runtime::private::consume(
            runtime,
            __IDEM_POLICY,
            key,
            payload,
            move || async move {
                #[allow(unreachable_code, clippy::diverging_sub_expression)]
                if let ::core::option::Option::Some(returned) = ::core::option::Option::None::<
                    anyhow::Result<u64>,
                > {
                    return returned;
                }
                event.touch();
                app.charge(event).await
            },
        )
        .await
}
