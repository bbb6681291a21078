#[crate::idem::idempotent_consumer(scope = "count", key = id, fingerprint = off, runtime = idempotency, missing = run, crate = crate::idem)]
async fn count<'a, S: Sink + 'a>(idempotency: &Idempotency, sink: &'a mut S, id: Option<u64>) -> Result<(), S::Error>
where
    S::Error: From<ConsumeError>,
{
    sink.add(1).await
}
