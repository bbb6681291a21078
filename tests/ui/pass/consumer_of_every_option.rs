#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, financial, idempotent_consumer};

struct Message {
    id: u64,
    body: Vec<u8>,
}

#[idempotent_consumer(
    scope = "every-option",
    ttl = "7d",
    remember = "30d",
    key = message.id,
    payload = bytes(message.body),
    missing = reject,
    fingerprint = fields("/order"),
    on_conflict = wait("5s"),
    lease = "10s",
    renew_for = "10s",
    on_abandoned = refuse,
    on_store_error = reject,
    financial,
    max_attempts = 3,
    runtime = Some(&idempotency).expect("it is there"),
    crate = idem_runtime,
)]
async fn every(idempotency: Idempotency, message: Message) -> Result<usize, ConsumeError> {
    drop(idempotency);
    Ok(message.body.len())
}

#[financial]
#[idempotent_consumer(scope = "above", key = message.id, payload = bytes(message.body), runtime = idempotency)]
async fn marked(idempotency: &Idempotency, message: &Message) -> Result<usize, ConsumeError> {
    let _ = idempotency;
    Ok(message.body.len())
}

#[idempotent_consumer(scope = "off", key = id, fingerprint = off, runtime = idempotency)]
async fn off(idempotency: Idempotency, id: u64, value: u64) -> Result<u64, ConsumeError> {
    let _ = (idempotency, id);
    Ok(value)
}

fn main() {
    let idempotency = support::runtime();
    support::wait(async {
        for body in [r#"{"order":7,"at":1}"#, r#"{"at":99999,"order":7}"#] {
            let message = || Message { id: 1, body: body.into() };
            assert_eq!(every(idempotency.clone(), message()).await, Ok(18));
        }
        for _ in 0..2 {
            assert_eq!(marked(&idempotency, &Message { id: 1, body: vec![0xff; 3] }).await, Ok(3));
        }
        assert_eq!(off(idempotency.clone(), 1, 2).await, Ok(2));
        assert_eq!(off(idempotency, 1, 3).await, Ok(2));
    });
}
