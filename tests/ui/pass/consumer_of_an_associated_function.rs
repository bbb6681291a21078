//! What `Self` is, nobody knows here: it may borrow, and need not be `Send`.
#![deny(warnings)]

#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, Settlement, Unsettled, idempotent_consumer};

#[derive(serde::Serialize)]
struct Message<'a> {
    id: u64,
    text: &'a str,
}

impl Message<'_> {
    #[idempotent_consumer(scope = "self", key = message.id, payload = message, runtime = idempotency)]
    async fn length(idempotency: Idempotency, message: Self) -> Result<usize, ConsumeError> {
        drop(idempotency);
        Ok(message.text.len())
    }
}

trait Consumer {
    type Event: serde::Serialize;

    #[idempotent_consumer(scope = "associated", key = id, payload = event, runtime = idempotency)]
    async fn id(idempotency: Idempotency, id: u64, event: Self::Event) -> Result<u64, ConsumeError> {
        drop((idempotency, event));
        Ok(id)
    }
}

struct Warehouse {
    idempotency: Idempotency,
}

impl Consumer for Warehouse {
    type Event = std::rc::Rc<str>;
}

impl Warehouse {
    async fn ask(_: Unsettled) -> Option<Settlement> {
        None
    }

    #[idempotent_consumer(
        scope = "asking", key = id, payload = id, runtime = self.idempotency, on_abandoned = recover(Self::ask)
    )]
    async fn ship(&self, id: u64) -> Result<u64, ConsumeError> {
        Ok(id)
    }
}

#[idempotent_consumer(scope = "ref", key = id, payload = id, runtime = idempotency)]
async fn by_ref(idempotency: Idempotency, ref id: String) -> Result<usize, ConsumeError> {
    drop(idempotency);
    Ok(id.len())
}

fn main() {
    let idempotency = support::runtime();
    let warehouse = Warehouse { idempotency: idempotency.clone() };
    support::wait(async {
        let text = "abc".to_owned();
        let message = Message { id: 1, text: &text };
        assert_eq!(Message::length(idempotency.clone(), message).await, Ok(3));
        assert_eq!(Warehouse::id(idempotency.clone(), 1, "a".into()).await, Ok(1));
        assert_eq!(warehouse.ship(2).await, Ok(2));
        assert_eq!(by_ref(idempotency, "ab".to_owned()).await, Ok(2));
    });
}
