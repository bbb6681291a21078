#[idempotent_consumer(scope = "charge", key = job.id, payload = job, runtime = idempotency)]
#[inline]
async fn charge(
    idempotency: Idempotency,
    Job { id, label: _, .. }: Job,
    job: Job,
    _permit: Permit,
    _: Permit,
    forgotten: u64,
    #[allow(unused_variables)] allowed: u64,
    #[cfg(unix)] socket: Socket,
) -> Result<(), Error> {
    #[cfg(unix)]
    socket.close();
    log!("{id}")
}
