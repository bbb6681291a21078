#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Event {
    id: String,
    order: u64,
}

#[idempotent_consumer(scope = "ship", ttl = "7d", key = event.id, payload = event, runtime = idempotency)]
async fn ship(idempotency: Idempotency, mut event: Event, runs: support::Runs) -> Result<Event, ConsumeError> {
    runs.begin();
    drop(idempotency);
    event.order += 1;
    Ok(event)
}

fn main() {
    let (idempotency, runs) = (support::runtime(), support::Runs::default());
    let event = Event { id: "evt_1".to_owned(), order: 7 };
    support::wait(async {
        for _ in 0..2 {
            let shipped = ship(idempotency.clone(), event.clone(), runs.clone()).await;
            assert_eq!(shipped, Ok(Event { order: 8, ..event.clone() }));
        }
        let other = Event { order: 9, ..event };
        let refused = ship(idempotency, other, runs.clone()).await.expect_err("parked");
        assert_eq!(refused.to_string(), "the event is parked: its id was used with another payload");
    });
    assert_eq!(runs.count(), 1);
}
