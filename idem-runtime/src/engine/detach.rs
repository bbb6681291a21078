//! A future that its caller cannot cut in half.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tracing::{Instrument, Span};

use super::Engine;

#[cfg(test)]
mod tests;

/// Polled in place while its caller polls it, handed to the runtime when its caller drops it.
///
/// In place it costs one allocation and keeps the caller's task-locals; handed over it keeps the span it was made in, and what
/// [`OnDetach`] gives it.
pub(crate) struct Detached<'a, F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    /// Whether a poll has begun and not come back: it panicked.
    polling: bool,
    span: Span,
    engine: &'a Engine,
}

/// The rest of an operation whose caller is gone, on its way to the runtime.
pub type DetachedRun = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the service makes of it on that way.
#[derive(Clone, Default)]
pub(crate) struct OnDetach(Option<Arc<dyn Fn(DetachedRun) -> DetachedRun + Send + Sync>>);

impl OnDetach {
    pub(crate) fn new(carry: impl Fn(DetachedRun) -> DetachedRun + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(carry)))
    }
}

impl fmt::Debug for OnDetach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnDetach").field(&self.0.is_some()).finish()
    }
}

/// The runtime in which an operation was polled first.
#[derive(Debug, Default)]
pub(super) struct FirstRuntime(OnceLock<Handle>);

impl FirstRuntime {
    fn note(&self) {
        if self.0.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let _ = self.0.set(runtime);
        }
    }
}

impl Engine {
    /// For a caller outside of every runtime, such as a thread of another language: the runtime that renews leases, or the first one.
    fn known_runtime(&self) -> Option<Handle> {
        let first = || self.0.runtime.0.get().cloned();
        self.0.leases.runtime().filter(is_alive).or_else(|| first().filter(is_alive))
    }
}

/// A runtime that has ended drops whatever is handed to it.
fn is_alive(runtime: &Handle) -> bool {
    let probe = runtime.spawn(std::future::pending::<()>());
    let alive = !probe.is_finished();
    probe.abort();
    alive
}

impl<'a, F: Future<Output: Send> + Send + 'static> Detached<'a, F> {
    pub(crate) fn new(future: F, engine: &'a Engine) -> Self {
        engine.0.runtime.note();
        Self { future: Some(Box::pin(future)), polling: false, span: Span::current(), engine }
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
        // Without any the process is ending; the record stays in flight and its lease runs out.
        let Some(runtime) = Handle::try_current().ok().or_else(|| self.engine.known_runtime()) else { return };
        self.engine.0.counters.detached.add();
        let run = future.instrument(std::mem::replace(&mut self.span, Span::none()));
        match &self.engine.settings().on_detach.0 {
            // Here and now, as the caller's task-locals are set while it drops us.
            Some(carry) => drop(runtime.spawn(carry(Box::pin(async move { drop(run.await) })))),
            None => drop(runtime.spawn(run)),
        }
    }
}
