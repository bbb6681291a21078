//! How many operations are in flight: bounded, and waited for at shutdown.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// What [`Idempotency::drain`](crate::Idempotency::drain) came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Nothing runs and nothing is left to be recorded.
    pub finished: bool,
    /// How many operations still run or wait to be recorded.
    pub left: usize,
}

/// Counts operations from their claim on; never those whose body is still being uploaded.
#[derive(Debug)]
pub(crate) struct Tracker(Arc<Count>);

#[derive(Debug)]
struct Count {
    in_flight: AtomicUsize,
    limit: usize,
    /// How many wait until nothing is in flight: an operation that nobody waits for wakes nobody.
    awaited: AtomicUsize,
    idle: Notify,
}

/// One operation in flight.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Count>);

impl Tracker {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Count {
            in_flight: AtomicUsize::new(0),
            limit,
            awaited: AtomicUsize::new(0),
            idle: Notify::new(),
        }))
    }

    /// `None`: as many run as may.
    pub(crate) fn enter(&self) -> Option<Permit> {
        let before = self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        let permit = Permit(self.0.clone());
        (before < self.0.limit).then_some(permit)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// Resolves at a moment when nothing is in flight.
    pub(crate) async fn idle(&self) {
        // Counted before it looks what is in flight, as an operation leaves before it looks who waits: one of the two sees the other.
        let _awaited = Awaited::of(&self.0.awaited);
        loop {
            let mut notified = std::pin::pin!(self.0.idle.notified());
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.awaited.load(Ordering::SeqCst) > 0 {
            self.0.idle.notify_waiters();
        }
    }
}

/// One who waits.
struct Awaited<'a>(&'a AtomicUsize);

impl<'a> Awaited<'a> {
    fn of(awaited: &'a AtomicUsize) -> Self {
        awaited.fetch_add(1, Ordering::SeqCst);
        Self(awaited)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
