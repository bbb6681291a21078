use idem_runtime::{ConsumeError, Idempotency, idempotent, idempotent_consumer};

const KEY: &str = "payments";

struct Shipping;

impl Shipping {
    const KEY: u64 = 1;

    #[idempotent_consumer(scope = "ship", key = Self::KEY, payload = event, runtime = idempotency)]
    async fn ship(idempotency: Idempotency, event: String) -> Result<String, ConsumeError> {
        drop(idempotency);
        Ok(event)
    }
}

#[idempotent(scope = "payments", key = any_of(from_header, KEY), principal = KEY)]
async fn create(body: String) -> String {
    body
}

fn main() {}
