//! What happened, counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Ran, Refusal};

/// How often each thing happened since the runtime was built, and what it is doing now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Operations that ran.
    pub executed: u64,
    /// Answers replayed.
    pub replayed: u64,
    /// Refused: the first request was in flight.
    pub conflicts: u64,
    /// Refused: the key was used with another request.
    pub mismatches: u64,
    /// Refused: outcome unknown or record unreadable.
    pub unknown: u64,
    /// Refused: it ran, the answer is not kept.
    pub not_kept: u64,
    /// Refused: the store gave no answer, or its transactions met each other too often.
    pub unavailable: u64,
    /// Refused: too many operations in flight.
    pub overloaded: u64,
    /// Operations that panicked.
    pub panics: u64,
    /// Operations that ran without a guard because the store gave no answer and `on_store_error` is `run`.
    pub unguarded: u64,
    /// Owners that had lost their claim when they were done: each is an operation that may have run twice.
    pub stale_owners: u64,
    /// Steps that the store failed.
    pub store_errors: u64,
    /// Operations that went on after their caller was gone.
    pub detached: u64,
    /// Unknown outcomes that a recovery function settled.
    pub recovered: u64,
    /// Transactions that met another one, were rolled back and run again.
    pub reruns: u64,
    /// Outcomes given up because too many were waiting for the store.
    pub dropped_outcomes: u64,
    /// Operations in flight now.
    pub in_flight: u64,
    /// Outcomes that wait for the store now.
    pub unrecorded: u64,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every counter of one engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Table>);

impl std::ops::Deref for Counters {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Table { $(pub(crate) $name: Counter,)* }

        impl Counters {
            pub(crate) fn snapshot(&self, in_flight: usize, unrecorded: usize) -> Metrics {
                Metrics {
                    $($name: self.0.$name.get(),)*
                    in_flight: in_flight as u64,
                    unrecorded: unrecorded as u64,
                }
            }
        }
    };
}

counters! {
    executed, replayed, conflicts, mismatches, unknown, not_kept, unavailable, overloaded, panics, unguarded,
    stale_owners, store_errors, detached, recovered, reruns, dropped_outcomes,
}

impl Counters {
    /// Counts how an operation was answered. Executions are counted where they end, detached ones too.
    pub(crate) fn answered<T>(&self, ran: &Result<Ran<T>, Refusal>) {
        match ran {
            // A replay is counted by the one who reads it: it may turn out to be unreadable.
            Ok(Ran::Fresh(_) | Ran::Replay(_)) | Err(Refusal::Panicked | Refusal::Leaked) => {}
            Err(Refusal::InFlight { .. }) => self.conflicts.add(),
            Err(Refusal::Mismatch) => self.mismatches.add(),
            Err(Refusal::Unknown | Refusal::Unreadable) => self.unknown.add(),
            Err(Refusal::NotKept) => self.not_kept.add(),
            Err(Refusal::Unavailable | Refusal::Contended | Refusal::Unconfirmed) => self.unavailable.add(),
            Err(Refusal::Overloaded) => self.overloaded.add(),
        }
    }
}
