use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[async_trait::async_trait]
trait Ships {
    async fn ship(&self, id: u64) -> Result<u64, ConsumeError>;
}

struct Warehouse {
    idempotency: Idempotency,
}

#[async_trait::async_trait]
impl Ships for Warehouse {
    #[idempotent_consumer(scope = "ship", key = id, payload = id, runtime = self.idempotency)]
    async fn ship(&self, id: u64) -> Result<u64, ConsumeError> {
        Ok(id)
    }
}

fn main() {}
