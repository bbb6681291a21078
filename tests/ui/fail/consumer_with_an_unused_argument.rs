#![deny(unused_variables)]
use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[idempotent_consumer(scope = "ship", key = id, payload = id, runtime = idempotency)]
async fn ship(
    idempotency: Idempotency,
    id: u64,
    label: String,
    #[allow(unused_variables)] allowed: String,
    _permit: String,
    _: String,
) -> Result<(), ConsumeError> {
    Ok(())
}

fn main() {}
