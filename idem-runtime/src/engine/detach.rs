//! A future that its caller cannot cut in half.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tracing::{Instrument, Span};

use super::metrics::Counters;

#[cfg(test)]
mod tests;

/// Polled in place while its caller polls it, handed to the runtime when its caller drops it.
///
/// In place it costs one allocation and keeps the caller's task-locals; handed over it keeps only the span it was
/// made in.
pub(crate) struct Detached<'a, F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    /// Whether a poll has begun and not come back: it panicked.
    polling: bool,
    span: Span,
    counters: &'a Counters,
}

impl<'a, F: Future<Output: Send> + Send + 'static> Detached<'a, F> {
    pub(crate) fn new(future: F, counters: &'a Counters) -> Self {
        Self { future: Some(Box::pin(future)), polling: false, span: Span::current(), counters }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Detached<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(future) = &mut this.future else {
            unreachable!("polled after completion");
        };
        this.polling = true;
        let poll = future.as_mut().poll(context);
        this.polling = false;
        if poll.is_ready() {
            this.future = None;
        }
        poll
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Detached<'_, F> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        if self.polling {
            // The store panicked, for one: there is nothing to go on with.
            return;
        }
        // Without a runtime the process is ending; the record stays in flight and its lease runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.counters.detached.add();
            runtime.spawn(future.instrument(std::mem::replace(&mut self.span, Span::none())));
        }
    }
}
