use idem_runtime::{Idempotency, idempotent_consumer};

#[derive(serde::Serialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = idempotency)]
async fn ship(idempotency: Idempotency, event: Event) {
    let _ = (idempotency, event);
}

fn main() {}
