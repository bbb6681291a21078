#[idempotent_consumer(scope = "charge", key = any_of(event.id, derive("order", "charge", event.order)), payload = bytes(event.raw), runtime = app.idempotency, financial, max_attempts = 3)]
async fn charge(State(app): State<App>, mut event: Event) -> anyhow::Result<u64> {
    event.touch();
    app.charge(event).await
}
