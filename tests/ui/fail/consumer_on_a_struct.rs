use idem_runtime::idempotent_consumer;

#[derive(serde::Serialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = idempotency)]
struct Consumer;

fn main() {}
