use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[idempotent_consumer(scope = "ship", key = any_of(id, ("evt")), payload = (), runtime = idempotency)]
async fn ship(idempotency: Idempotency, id: u64) -> Result<u64, ConsumeError> {
    drop(idempotency);
    Ok(id)
}

fn main() {}
