//! What happened, counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Ran, Refusal};
use crate::per_thread::PerThread;

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
    /// Operations that ran for longer than [`renew_for`](crate::Policy::renew_for): their lease was renewed no more.
    pub leases_let_go: u64,
    /// Steps that the store failed.
    pub store_errors: u64,
    /// Operations that went on after their caller was gone.
    pub detached: u64,
    /// Operations parked: not run again before somebody resolves them.
    pub parked: u64,
    /// Unknown outcomes that a recovery function settled.
    pub recovered: u64,
    /// Transactions that met another one, were rolled back and run again.
    pub reruns: u64,
    /// Outcomes given up because too many were waiting for the store.
    pub dropped_outcomes: u64,
    /// Operations in flight now; without those in a transaction of the caller's own.
    pub in_flight: u64,
    /// Outcomes that wait for the store now.
    pub unrecorded: u64,
    /// For how long the oldest operation that runs now has run, in milliseconds, counted from its claim; 0: none does. Of those that
    /// hold a lease, as all do but transactions and what runs without a guard.
    pub oldest_in_flight_ms: u64,
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

/// Every counter of one engine. Each thread adds to its own; what happened is their sum.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<PerThread<Table>>);

impl std::ops::Deref for Counters {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.0.here()
    }
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Table { $(pub(crate) $name: Counter,)* }

        impl Metrics {
            /// Every field with its name, in the order above: for an export that has the fields of later versions too.
            ///
            /// ```
            /// let idempotency = idem_runtime::Idempotency::builder(idem_runtime::MemoryStore::new()).shared().build();
            /// for (name, value) in idempotency.metrics().iter() {
            ///     println!("idem_{name} {value}");
            /// }
            /// ```
            pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, u64)> + use<> {
                // Taken apart without `..`, so that rustc names a field that is missing here.
                let Self { $($name,)* in_flight, unrecorded, oldest_in_flight_ms } = *self;
                [
                    $((stringify!($name), $name),)*
                    ("in_flight", in_flight),
                    ("unrecorded", unrecorded),
                    ("oldest_in_flight_ms", oldest_in_flight_ms),
                ]
                .into_iter()
            }
        }

        impl Counters {
            pub(crate) fn snapshot(&self, in_flight: usize, unrecorded: usize) -> Metrics {
                Metrics {
                    $($name: self.0.iter().map(|table| table.$name.get()).sum(),)*
                    in_flight: in_flight as u64,
                    unrecorded: unrecorded as u64,
                    oldest_in_flight_ms: 0,
                }
            }
        }
    };
}

counters! {
    executed, replayed, conflicts, mismatches, unknown, not_kept, unavailable, overloaded, panics, unguarded,
    stale_owners, leases_let_go, store_errors, detached, parked, recovered, reruns, dropped_outcomes,
}

impl Counters {
    /// Counts how an operation was answered. Executions are counted where they end, detached ones too.
    pub(crate) fn answered<T>(&self, ran: &Result<Ran<T>, Refusal>) {
        match ran {
            // A replay is counted by the one who reads it: it may turn out to be unreadable.
            Ok(Ran::Fresh(_) | Ran::Stale(_) | Ran::Replay(_) | Ran::Parked(_))
            | Err(
                Refusal::Panicked
                | Refusal::Leaked
                | Refusal::Unnamed
                | Refusal::NoTransaction
                | Refusal::NoFingerprint,
            ) => {}
            Err(Refusal::InFlight { .. }) => self.conflicts.add(),
            Err(Refusal::Mismatch) => self.mismatches.add(),
            Err(Refusal::Unknown | Refusal::Unreadable) => self.unknown.add(),
            Err(Refusal::NotKept) => self.not_kept.add(),
            Err(Refusal::Unavailable { .. } | Refusal::Contended | Refusal::Unconfirmed) => self.unavailable.add(),
            Err(Refusal::Overloaded) => self.overloaded.add(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Metrics};

    #[test]
    fn names_every_field_once_and_in_its_order() {
        let metrics = Metrics { executed: 1, replayed: 2, unrecorded: 3, oldest_in_flight_ms: 4, ..Metrics::default() };
        let fields: Vec<_> = metrics.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(format!("Metrics {{ {} }}", fields.join(", ")), format!("{metrics:?}"));
    }

    #[test]
    fn what_many_threads_count_is_one_sum() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..100).for_each(|_| counters.executed.add()));
            }
        });
        assert_eq!(counters.snapshot(0, 0).executed, 2000);
    }
}
