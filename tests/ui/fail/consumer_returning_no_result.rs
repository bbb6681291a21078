use idem_runtime::{Idempotency, idempotent_consumer};

#[idempotent_consumer(scope = "ship", key = id, payload = id, runtime = idempotency)]
async fn ship(idempotency: Idempotency, id: u64) -> Option<u64> {
    Some(id)
}

fn main() {}
