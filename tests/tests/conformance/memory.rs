//! The memory store keeps every law that it can be asked for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{
    FakeClock, MemoryStore, Store,
    conformance::{Fixture, suite},
};

suite!(
    fake_clock,
    OnFakeClock::new(),
    damage: no("records are typed values: there are no bytes to break"),
    restart: no("a restart forgets every record, and the store says so at start-up"),
);

suite!(
    real_clock,
    OnRealClock(Arc::new(MemoryStore::new())),
    damage: no("records are typed values: there are no bytes to break"),
    restart: no("a restart forgets every record, and the store says so at start-up"),
);

struct OnFakeClock {
    store: MemoryStore,
    clock: FakeClock,
}

struct OnRealClock(Arc<MemoryStore>);

impl OnFakeClock {
    fn new() -> Self {
        let clock = FakeClock::new();
        Self { store: MemoryStore::with_clock(clock.clone()), clock }
    }
}

#[async_trait]
impl Fixture for OnFakeClock {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[async_trait]
impl Fixture for OnRealClock {
    async fn store(&self) -> Arc<dyn Store> {
        self.0.clone()
    }

    /// Waiting is what is asked for here: it is the store's time that passes.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
