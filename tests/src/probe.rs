//! What a test watches an effect with, and how it cuts one short.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use idem_runtime::Clock;
use tokio::time::Instant;

/// How often an effect began, and how often it came to its end. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<(AtomicUsize, AtomicUsize)>);

impl Runs {
    /// It begins.
    pub fn begin(&self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }

    /// It ends.
    pub fn end(&self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it began.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// How often it ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// The clock of a store that goes as the runtime's: a test that moves the paused time moves the leases with it.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeClock(Instant);

impl RuntimeClock {
    /// A clock at 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for RuntimeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> u64 {
        1_767_225_600_000_000 + u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Polls a future so often and drops it where it stands. `Some`: it was done before.
pub async fn cut_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    Cut { future: Box::pin(future), polls }.await
}

struct Cut<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll: cut at this very await point, whatever it waits for.
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
