//! `#[idempotent_consumer]` on functions and methods.

use std::{fmt, sync::Arc, time::Duration};

use idem_runtime::{
    ConsumeError, Idempotency, Policy,
    consumer::{Delivery, ParkedReason},
    idempotent_consumer,
};
use serde::{Deserialize, Serialize};
use tests::{backend::Backend, gate::Gate, probe::Runs};
use tokio::sync::Barrier;

tests::on_every_store!(
    a_function_runs_once_and_gives_every_delivery_the_first_value,
    functions_of_one_scope_are_one_consumer,
    a_function_that_fails_is_tried_again_and_parked_in_the_end,
    a_function_of_its_own_arguments_outlives_its_caller,
    what_a_function_is_given_lives_as_long_as_its_body,
    a_method_ends_with_its_caller_and_its_event_runs_again,
    a_key_used_with_another_payload_is_parked,
    an_event_without_an_id_is_parked,
);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    cents: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum ShipError {
    Refused(ConsumeError),
    NoStock,
}

impl fmt::Display for ShipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NoStock => f.write_str("no stock"),
        }
    }
}

impl From<ConsumeError> for ShipError {
    fn from(error: ConsumeError) -> Self {
        Self::Refused(error)
    }
}

#[idempotent_consumer(
    scope = "ship", key = order.id, payload = order, runtime = idempotency, on_conflict = wait("50s")
)]
async fn ship(idempotency: Idempotency, order: Order, runs: Runs) -> Result<Order, ShipError> {
    let _ = idempotency;
    runs.begin();
    tokio::task::yield_now().await;
    runs.end();
    Ok(Order { cents: order.cents + 1, ..order })
}

#[idempotent_consumer(scope = "ship", key = order.id, payload = order, runtime = idempotency)]
async fn ship_under_another_name(idempotency: &Idempotency, runs: &Runs, order: &Order) -> Result<Order, ShipError> {
    let _ = idempotency;
    runs.begin();
    Ok(order.clone())
}

#[idempotent_consumer(scope = "fail", key = order.id, payload = order, runtime = idempotency, max_attempts = 2)]
async fn fail(idempotency: Idempotency, order: Order, stocked: bool) -> Result<u64, ShipError> {
    let _ = idempotency;
    if !stocked {
        return Err(ShipError::NoStock);
    }
    Ok(order.cents)
}

#[idempotent_consumer(
    scope = "held", key = order.id, payload = order, runtime = idempotency, on_conflict = wait("50s")
)]
async fn held(idempotency: Idempotency, order: Order, gate: Gate, runs: Runs) -> Result<u64, ShipError> {
    let _ = idempotency;
    runs.begin();
    gate.pass().await;
    runs.end();
    Ok(order.cents)
}

struct Job {
    order: Order,
    _permit: Arc<()>,
}

#[idempotent_consumer(
    scope = "permits", key = job.order.id, payload = job.order, runtime = idempotency, on_conflict = wait("50s")
)]
async fn work(idempotency: Idempotency, job: Job, gate: Gate, _permit: Arc<()>, _: Arc<()>) -> Result<u64, ShipError> {
    gate.pass().await;
    Ok(job.order.cents)
}

#[derive(Clone)]
struct Warehouse {
    idempotency: Idempotency,
    runs: Runs,
}

impl Warehouse {
    #[idempotent_consumer(
        scope = "method", key = order.id, payload = order, runtime = self.idempotency, lease = "1s", max_attempts = 2
    )]
    async fn ship(&self, order: &Order, gate: &Gate) -> Result<u64, ShipError> {
        self.runs.begin();
        gate.pass().await;
        self.runs.end();
        Ok(order.cents)
    }

    #[idempotent_consumer(scope = "nameless", key = id, payload = id, runtime = self.idempotency)]
    async fn nameless(&self, id: Option<&str>) -> Result<(), ShipError> {
        let _ = id;
        self.runs.begin();
        Ok(())
    }
}

async fn runtime(backend: &Backend) -> Idempotency {
    Idempotency::builder_shared(backend.connect().await).shared().build()
}

fn order(cents: u64) -> Order {
    Order { id: "evt_1".to_owned(), cents }
}

async fn a_function_runs_once_and_gives_every_delivery_the_first_value(backend: Backend) {
    let (one, other, runs) = (runtime(&backend).await, runtime(&backend).await, Runs::default());
    let barrier = Arc::new(Barrier::new(10));
    let deliveries = (0..10).map(|at| {
        let idempotency = if at % 2 == 0 { one.clone() } else { other.clone() };
        let (barrier, runs) = (barrier.clone(), runs.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            ship(idempotency, order(7), runs).await
        })
    });
    for shipped in futures_util::future::join_all(deliveries).await {
        assert_eq!(shipped.expect("no panic"), Ok(order(8)));
    }
    assert_eq!((runs.begun(), runs.ended()), (1, 1));
}

async fn functions_of_one_scope_are_one_consumer(backend: Backend) {
    let (idempotency, runs) = (runtime(&backend).await, Runs::default());
    assert_eq!(ship(idempotency.clone(), order(7), runs.clone()).await, Ok(order(8)));
    assert_eq!(ship_under_another_name(&idempotency, &runs, &order(7)).await, Ok(order(8)));
    assert_eq!(runs.begun(), 1);
}

async fn a_function_that_fails_is_tried_again_and_parked_in_the_end(backend: Backend) {
    let idempotency = runtime(&backend).await;
    assert_eq!(fail(idempotency.clone(), order(7), false).await, Err(ShipError::NoStock));
    let parked = Err(ShipError::Refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert_eq!(fail(idempotency.clone(), order(7), false).await, parked);
    assert_eq!(fail(idempotency.clone(), order(7), true).await, parked);

    let consumer = idempotency.consumer(Policy::new("fail"));
    let event = consumer.parked(10).await.expect("a list").remove(0);
    assert_eq!((event.error(), event.attempts(), event.id()), (Some("no stock"), 2, Some("evt_1")));
    let payload = event.payload().expect("a payload");
    assert_eq!(serde_json::from_slice::<Order>(payload).expect("an order"), order(7));
    let _ = consumer.redrive(&event).await.expect("an answer");
    for stocked in [true, false] {
        assert_eq!(fail(idempotency.clone(), order(7), stocked).await, Ok(7));
    }
}

async fn a_function_of_its_own_arguments_outlives_its_caller(backend: Backend) {
    let (idempotency, gate, runs) = (runtime(&backend).await, Gate::new(), Runs::default());
    let mut delivery = Box::pin(held(idempotency.clone(), order(7), gate.clone(), runs.clone()));
    tokio::select! {
        done = &mut delivery => panic!("{done:?}"),
        () = gate.reached() => {}
    }
    drop(delivery);
    gate.open();
    assert_eq!(held(idempotency, order(7), gate, runs.clone()).await, Ok(7));
    assert_eq!((runs.begun(), runs.ended()), (1, 1));
}

async fn what_a_function_is_given_lives_as_long_as_its_body(backend: Backend) {
    let (idempotency, gate, permit) = (runtime(&backend).await, Gate::new(), Arc::new(()));
    let job = |permit: &Arc<()>| Job { order: order(7), _permit: permit.clone() };
    let mut delivery = Box::pin(work(idempotency.clone(), job(&permit), gate.clone(), permit.clone(), permit.clone()));
    tokio::select! {
        done = &mut delivery => panic!("{done:?}"),
        () = gate.reached() => {}
    }
    drop(delivery);
    assert_eq!(Arc::strong_count(&permit), 4, "a permit was given back while the body runs");
    gate.open();
    let other = Arc::new(());
    assert_eq!(work(idempotency, job(&other), gate, other.clone(), other.clone()).await, Ok(7));
}

async fn a_method_ends_with_its_caller_and_its_event_runs_again(backend: Backend) {
    let warehouse = Warehouse { idempotency: runtime(&backend).await, runs: Runs::default() };
    let (order, gate) = (order(7), Gate::new());
    {
        let mut delivery = Box::pin(warehouse.ship(&order, &gate));
        tokio::select! {
            done = &mut delivery => panic!("{done:?}"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    backend.pass(Duration::from_secs(1)).await;
    assert_eq!(warehouse.ship(&order, &gate).await, Ok(7));
    assert_eq!(warehouse.ship(&order, &gate).await, Ok(7));
    assert_eq!((warehouse.runs.begun(), warehouse.runs.ended()), (2, 1));
    assert_eq!(warehouse.idempotency.metrics().in_flight, 0);
}

async fn a_key_used_with_another_payload_is_parked(backend: Backend) {
    let (idempotency, runs) = (runtime(&backend).await, Runs::default());
    assert_eq!(ship(idempotency.clone(), order(7), runs.clone()).await, Ok(order(8)));
    let refused = ConsumeError::Parked(ParkedReason::KeyReused);
    assert_eq!(ship(idempotency.clone(), order(9), runs.clone()).await, Err(ShipError::Refused(refused.clone())));
    assert_eq!(refused.delivery(), Delivery::Acknowledge);
    assert_eq!(ship(idempotency, order(7), runs.clone()).await, Ok(order(8)));
    assert_eq!(runs.begun(), 1);
}

async fn an_event_without_an_id_is_parked(backend: Backend) {
    let warehouse = Warehouse { idempotency: runtime(&backend).await, runs: Runs::default() };
    for id in [None, Some("")] {
        let refused = ShipError::Refused(ConsumeError::Parked(ParkedReason::NoId));
        assert_eq!(warehouse.nameless(id).await, Err(refused));
    }
    assert_eq!(warehouse.nameless(Some("evt_1")).await, Ok(()));
    assert_eq!(warehouse.runs.begun(), 1);
}
