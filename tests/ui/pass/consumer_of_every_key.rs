#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

#[derive(Clone, Default, serde::Serialize)]
struct Event {
    id: Option<String>,
    order: Option<u64>,
    lines: Vec<u64>,
}

#[idempotent_consumer(
    scope = "every-key",
    key = any_of(event.id, event.order.map(|order| format!("order-{order}")), derive("order", "ship", event.lines)),
    payload = event,
    runtime = idempotency,
)]
async fn ship(idempotency: Idempotency, event: Event, runs: support::Runs) -> Result<(), ConsumeError> {
    let _ = (idempotency, event);
    runs.begin();
    Ok(())
}

#[idempotent_consumer(scope = "no-key", key = event.id, payload = event, runtime = idempotency, missing = run)]
async fn without(idempotency: Idempotency, event: Event, runs: support::Runs) -> Result<(), ConsumeError> {
    let _ = (idempotency, event);
    runs.begin();
    Ok(())
}

#[idempotent_consumer(scope = "parked", key = event.id, payload = event, runtime = idempotency)]
async fn parked(idempotency: Idempotency, event: Event) -> Result<(), ConsumeError> {
    let _ = (idempotency, event);
    unreachable!("it has no id")
}

fn main() {
    let (idempotency, runs) = (support::runtime(), support::Runs::default());
    let nameless = Event::default();
    support::wait(async {
        for _ in 0..2 {
            for event in [
                Event { id: Some("evt_1".to_owned()), ..nameless.clone() },
                Event { order: Some(7), ..nameless.clone() },
                Event { lines: vec![1, 2], ..nameless.clone() },
            ] {
                assert_eq!(ship(idempotency.clone(), event, runs.clone()).await, Ok(()));
            }
        }
        assert_eq!(runs.count(), 3);
        for _ in 0..2 {
            assert_eq!(without(idempotency.clone(), nameless.clone(), runs.clone()).await, Ok(()));
        }
        let refused = parked(idempotency, nameless).await.expect_err("parked");
        assert_eq!(refused.to_string(), "the event is parked: it has no id");
    });
    assert_eq!(runs.count(), 5);
}
