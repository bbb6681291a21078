use idem_runtime::{Idempotency, idempotent_consumer};

#[derive(serde::Serialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = idempotency)]
async fn ship(idempotency: Idempotency, event: Event) -> Result<u64, std::fmt::Error> {
    let _ = idempotency;
    Ok(event.order)
}

fn main() {}
