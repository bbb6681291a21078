async fn charge(State(app): State<App>, mut event: Event) -> anyhow::Result<u64> {
    let __idem_policy = const {
        &::idem_runtime::Policy::new("charge")
            .key(
                &[
                    ::idem_runtime::KeySource::Arguments,
                    ::idem_runtime::KeySource::Arguments,
                ],
            )
            .financial()
            .max_attempts(3)
            .validate()
    };
    let __idem_runtime = ::idem_runtime::private::runtime(&app.idempotency);
    let __idem_key = ::idem_runtime::private::argument_key(&event.id)
        .or_else(|| ::idem_runtime::private::derived_key(
            &"order",
            &"charge",
            &event.order,
        ));
    let __idem_payload = ::idem_runtime::private::bytes_payload(&event.raw);
    ::idem_runtime::private::consume(
            __idem_runtime,
            __idem_policy,
            __idem_key,
            __idem_payload,
            move || async move {
                let _ = (&app, &event);
                if let ::core::option::Option::Some(__idem_returned) = ::core::option::Option::None::<
                    anyhow::Result<u64>,
                > {
                    return __idem_returned;
                }
                event.touch();
                app.charge(event).await
            },
        )
        .await
}
