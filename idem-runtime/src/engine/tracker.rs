//! How many operations are in flight: bounded, and waited for at shutdown.

use std::{
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use super::Engine;
use crate::apart::Apart;

/// What [`Idempotency::drain`](crate::Idempotency::drain) came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "what is left may be cut where it stands"]
pub struct Drained {
    /// Nothing runs and nothing is left to be recorded.
    pub finished: bool,
    /// How many operations still run or wait to be recorded.
    pub left: usize,
}

/// Counts operations from their claim on; never those whose body is still being uploaded.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// Every operation writes it.
    in_flight: Apart<AtomicUsize>,
    limit: usize,
    /// How many wait until nothing is in flight: an operation that nobody waits for wakes nobody.
    awaited: AtomicUsize,
    idle: Notify,
}

/// A handle of the engine that can take a place among the operations in flight, and gives it back. In one, as each count of handles is
/// one more thing that every operation writes.
#[derive(Debug)]
pub(crate) struct Permit {
    engine: Engine,
    entered: bool,
}

impl Tracker {
    pub(crate) fn new(limit: usize) -> Self {
        Self { in_flight: Apart::default(), limit, awaited: AtomicUsize::new(0), idle: Notify::new() }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.0.load(Ordering::SeqCst)
    }

    /// Resolves at a moment when nothing is in flight.
    pub(crate) async fn idle(&self) {
        // Counted before it looks what is in flight, as an operation leaves before it looks who waits: one of the two sees the other.
        let _awaited = Awaited::of(&self.awaited);
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Permit {
    /// Of an operation that has not entered yet.
    pub(super) fn outside(engine: &Engine) -> Self {
        Self { engine: engine.clone(), entered: false }
    }

    /// `None`: as many run as may.
    pub(super) fn inside(engine: &Engine) -> Option<Self> {
        let mut permit = Self::outside(engine);
        permit.enter().then_some(permit)
    }

    /// Takes a place, once; `false`: as many run as may.
    pub(super) fn enter(&mut self) -> bool {
        let Tracker { in_flight, limit, .. } = &self.engine.0.tracker;
        let enters = in_flight.0.fetch_add(1, Ordering::SeqCst) < *limit;
        self.entered = true;
        if !enters {
            self.leave();
        }
        enters
    }

    fn leave(&mut self) {
        let Tracker { in_flight, awaited, idle, .. } = &self.engine.0.tracker;
        let entered = std::mem::take(&mut self.entered);
        if entered && in_flight.0.fetch_sub(1, Ordering::SeqCst) == 1 && awaited.load(Ordering::SeqCst) > 0 {
            idle.notify_waiters();
        }
    }
}

impl Deref for Permit {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave();
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
