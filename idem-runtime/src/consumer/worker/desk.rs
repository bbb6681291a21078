//! The deliveries that a worker has in hand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};

use super::settle::{Settlement, Word};
use crate::consumer::{Delivery, Event, Outcome, ParkedReason};

/// What a worker did since it was built. Clones of a worker count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Deliveries that the broker handed out to it.
    pub delivered: u64,
    /// Those among them that had been handed out before, to it or to another.
    pub redelivered: u64,
    /// Deliveries of an event that had taken effect before.
    pub duplicates: u64,
    /// Deliveries whose event is parked.
    pub parked: u64,
    /// Deliveries that were settled: the event took effect or is parked.
    pub acknowledged: u64,
    /// Deliveries that were given back, to come again.
    pub retried: u64,
    /// Those among them whose event could not be looked up or recorded: the store gave no answer.
    pub store_errors: u64,
    /// Steps that the broker failed, each time they were tried.
    pub broker_errors: u64,
}

/// Behind [`WorkerMetrics`].
#[derive(Debug, Clone, Default)]
pub(in crate::consumer) struct Counters(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    delivered: AtomicU64,
    redelivered: AtomicU64,
    duplicates: AtomicU64,
    parked: AtomicU64,
    acknowledged: AtomicU64,
    retried: AtomicU64,
    store_errors: AtomicU64,
    broker_errors: AtomicU64,
}

/// Where jobs are handed out and settled.
#[derive(Debug)]
pub(super) struct Desk<R> {
    held: Arc<Held<R>>,
    words: UnboundedSender<Word<R>>,
    counters: Counters,
    backoff: (Duration, Duration),
    next: AtomicU64,
}

/// What the broker must hear of until it is settled.
#[derive(Debug)]
pub(super) struct Held<R>(Mutex<HashMap<u64, R>>);

/// One delivery in hand. Dropped unsettled, it is not renewed any more, so that the broker delivers it again.
#[derive(Debug)]
pub(in crate::consumer) struct Job<R> {
    desk: Arc<Desk<R>>,
    number: u64,
    /// Free again as soon as the job is settled.
    _slot: Option<OwnedSemaphorePermit>,
    /// Free again once the broker has heard of it.
    place: Option<OwnedSemaphorePermit>,
}

impl Counters {
    pub(in crate::consumer) fn snapshot(&self) -> WorkerMetrics {
        let Table { delivered, redelivered, duplicates, parked, acknowledged, retried, store_errors, broker_errors } =
            &*self.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerMetrics {
            delivered: read(delivered),
            redelivered: read(redelivered),
            duplicates: read(duplicates),
            parked: read(parked),
            acknowledged: read(acknowledged),
            retried: read(retried),
            store_errors: read(store_errors),
            broker_errors: read(broker_errors),
        }
    }

    pub(super) fn broker_failed(&self) {
        add(&self.0.broker_errors);
    }
}

impl<R: Clone> Desk<R> {
    pub(super) fn new(words: UnboundedSender<Word<R>>, counters: Counters, backoff: (Duration, Duration)) -> Self {
        Self { held: Arc::new(Held(Mutex::default())), words, counters, backoff, next: AtomicU64::new(0) }
    }

    pub(super) fn held(&self) -> Arc<Held<R>> {
        self.held.clone()
    }

    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn delivered(&self, again: bool) {
        add(&self.counters.0.delivered);
        if again {
            add(&self.counters.0.redelivered);
        }
    }

    /// `slot` is the delivery's own while it is handled, `place` until the broker has heard what became of it.
    pub(super) fn take(self: &Arc<Self>, receipt: R, [slot, place]: [Option<OwnedSemaphorePermit>; 2]) -> Job<R> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(number, receipt);
        Job { desk: self.clone(), number, _slot: slot, place }
    }
}

impl<R: Clone> Held<R> {
    pub(super) fn receipts(&self) -> Vec<R> {
        self.lock().values().cloned().collect()
    }
}

impl<R> Held<R> {
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Clone> Job<R> {
    /// Does what the outcome asks for.
    pub(in crate::consumer) fn settle(mut self, event: Event, outcome: &impl Outcome) {
        let counters = &self.desk.counters.0;
        if outcome.is_duplicate() {
            add(&counters.duplicates);
        }
        match (outcome.delivery(), outcome.parked()) {
            (Delivery::Retry { after }, _) => {
                add(&counters.retried);
                if outcome.is_store_error() {
                    add(&counters.store_errors);
                }
                let (least, most) = self.desk.backoff;
                self.say(|receipt| Settlement::Again { receipt, after: after.max(least).min(most) }, None);
            }
            (Delivery::Acknowledge, reason) => {
                add(&counters.acknowledged);
                if reason.is_some() {
                    add(&counters.parked);
                }
                self.say(|receipt| Settlement::Done { receipt }, reason.map(|reason| (event, reason)));
            }
        }
    }

    /// It was not begun: whoever has a free slot may take it.
    pub(super) fn give_back(mut self) {
        self.say(|receipt| Settlement::Again { receipt, after: Duration::ZERO }, None);
    }

    fn say(&mut self, settlement: impl FnOnce(R) -> Settlement<R>, parked: Option<(Event, ParkedReason)>) {
        let Some(receipt) = self.release() else { return };
        // Nobody listens once the worker is gone, and the broker delivers again what it was not told of.
        let _ = self.desk.words.send(Word { settlement: settlement(receipt), parked, place: self.place.take() });
    }
}

impl<R> Job<R> {
    /// From here on it is not renewed.
    fn release(&self) -> Option<R> {
        self.desk.held.lock().remove(&self.number)
    }
}

impl<R> Drop for Job<R> {
    fn drop(&mut self) {
        self.release();
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
