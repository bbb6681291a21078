use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[derive(serde::Serialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = idempotency)]
async fn ship(idempotency: Idempotency, event: Event) -> Result<Event, ConsumeError> {
    let _ = idempotency;
    Ok(event)
}

fn main() {}
