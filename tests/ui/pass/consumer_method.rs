#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};
use std::sync::Arc;

#[derive(Debug)]
enum ShipError {
    Refused(ConsumeError),
    NoStock,
}

impl std::fmt::Display for ShipError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl From<ConsumeError> for ShipError {
    fn from(error: ConsumeError) -> Self {
        Self::Refused(error)
    }
}

struct Warehouse<S> {
    idempotency: Idempotency,
    runs: support::Runs,
    stock: S,
}

impl<S: std::ops::Deref<Target = Vec<u64>>> Warehouse<S> {
    #[idempotent_consumer(scope = "by-ref", key = order, payload = order, runtime = self.idempotency)]
    async fn by_ref(&self, order: u64) -> Result<u64, ShipError> {
        self.runs.begin();
        self.find(order)
    }

    #[idempotent_consumer(scope = "by-mut", key = order, payload = order, runtime = self.idempotency)]
    async fn by_mut(&mut self, order: u64) -> Result<u64, ShipError> {
        self.runs = self.runs.clone();
        self.runs.begin();
        Ok(self.find(order)?)
    }

    #[idempotent_consumer(scope = "by-arc", key = order, payload = order, runtime = self.idempotency)]
    async fn by_arc(self: Arc<Self>, order: u64) -> Result<u64, ShipError> {
        self.runs.begin();
        if order == 0 {
            return Err(ShipError::NoStock);
        }
        self.find(order)
    }

    #[idempotent_consumer(scope = "by-value", key = order, payload = order, runtime = &self.idempotency)]
    async fn by_value(self, order: u64) -> Result<u64, ShipError> {
        self.runs.begin();
        self.find(order)
    }

    fn find(&self, order: u64) -> Result<u64, ShipError> {
        self.stock.iter().position(|stocked| *stocked == order).map(|at| at as u64).ok_or(ShipError::NoStock)
    }
}

fn main() {
    let (idempotency, runs) = (support::runtime(), support::Runs::default());
    let stock = vec![5, 7];
    let warehouse = || Warehouse { idempotency: idempotency.clone(), runs: runs.clone(), stock: &stock };
    support::wait(async {
        for _ in 0..2 {
            assert!(matches!(warehouse().by_ref(7).await, Ok(1)));
            assert!(matches!(warehouse().by_mut(7).await, Ok(1)));
            assert!(matches!(Arc::new(warehouse()).by_arc(7).await, Ok(1)));
            assert!(matches!(warehouse().by_value(7).await, Ok(1)));
        }
        for _ in 0..4 {
            assert!(matches!(warehouse().by_ref(8).await, Err(ShipError::NoStock)));
        }
        // The fifth is the last one.
        let ConsumeError::Parked(_) = (match warehouse().by_ref(8).await {
            Err(ShipError::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        }) else {
            panic!("not parked")
        };
    });
    assert_eq!(runs.count(), 9);
}
