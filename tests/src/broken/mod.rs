//! Stores that break one law each, to prove that the law can fail.
//!
//! [`Broken`] is the memory store with a book beside it: it knows of every key what the record is, and does everything right
//! but for its [`Fault`]. Without a fault it is a store that keeps every law, damage and restart included.

mod book;
mod fault;
mod halves;
mod list;
mod many;
mod restart;
mod store;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{
    FakeClock, MemoryStore, StorageKey, Store,
    conformance::{Damage, Damageable, Fixture},
};

use self::book::Book;
pub use self::{
    book::{Origin, When},
    fault::{FAULTS, Fault},
};

/// A store with at most one fault, and its fixture.
#[derive(Debug, Clone)]
pub struct Broken {
    fault: Option<Fault>,
    inner: MemoryStore,
    clock: FakeClock,
    book: Arc<Book>,
}

impl Broken {
    /// The store that keeps every law.
    pub fn by_nothing() -> Self {
        Self::by(None)
    }

    /// The store that keeps every law but those that this fault breaks.
    pub fn by(fault: impl Into<Option<Fault>>) -> Self {
        let clock = FakeClock::new();
        let inner = MemoryStore::with_clock(clock.clone());
        Self { fault: fault.into(), inner, clock, book: Arc::default() }
    }
}

#[async_trait]
impl Fixture for Broken {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

#[async_trait]
impl Damageable for Broken {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        let absent = damage == Damage::Gone || self.fault == Some(Fault::DamagedIsAbsent(damage));
        self.book.write(key, |page| if absent { page.forget() } else { page.damaged = true });
    }
}
