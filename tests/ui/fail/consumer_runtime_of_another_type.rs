use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[derive(serde::Serialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = event.order)]
async fn ship(idempotency: Idempotency, event: Event) -> Result<u64, ConsumeError> {
    let _ = idempotency;
    Ok(event.order)
}

fn main() {}
