//! The store of this process, on a clock that the test moves.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{Clock, FakeClock, MemoryStore, Store};

use super::Fixture;

/// Replicas share the one store of the process: nothing else is a second way to its records.
#[derive(Debug)]
pub struct Memory {
    store: MemoryStore,
    clock: FakeClock,
}

#[async_trait]
impl Fixture for Memory {
    async fn start() -> Self {
        let clock = FakeClock::new();
        Self { store: MemoryStore::with_clock(clock.clone()), clock }
    }

    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn rounds(&self) -> usize {
        1_000
    }

    async fn records(&self) -> usize {
        self.store.len()
    }

    async fn now(&self) -> Duration {
        Duration::from_micros(self.clock.now())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}
