#[inline]
async fn charge(
    idempotency: Idempotency,
    Job { id, label: _, .. }: Job,
    job: Job,
    _permit: Permit,
    __idem_a4: Permit,
    forgotten: u64,
    #[allow(unused_variables)]
    allowed: u64,
    #[cfg(unix)]
    socket: Socket,
) -> Result<(), Error> {
    let __idem_policy = const {
        &::idem_runtime::Policy::new("charge")
            .key(&[::idem_runtime::KeySource::Arguments])
            .validate()
    };
    let __idem_runtime = ::idem_runtime::private::runtime(&idempotency);
    let __idem_key = ::idem_runtime::private::argument_key(&job.id);
    let __idem_payload = ::idem_runtime::private::json_payload(&job);
    ::idem_runtime::private::consume(
            __idem_runtime,
            __idem_policy,
            __idem_key,
            __idem_payload,
            move || async move {
                #[allow(clippy::used_underscore_binding)]
                let _ = (&idempotency, &id, &job, &_permit, &__idem_a4, &allowed);
                let forgotten = forgotten;
                if let ::core::option::Option::Some(__idem_returned) = ::core::option::Option::None::<
                    Result<(), Error>,
                > {
                    return __idem_returned;
                }
                #[cfg(unix)] socket.close();
                log!("{id}")
            },
        )
        .await
}
