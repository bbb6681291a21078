//! A panic of the effect, caught so that its record can be settled.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

pin_project! {
    /// Resolves to `Err` when the future panics. The panic hook has run by then; the payload is dropped, and may panic once more.
    pub(crate) struct CatchPanic<F> {
        #[pin]
        future: Option<F>,
    }
}

/// The future panicked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panicked;

impl<F: Future> CatchPanic<F> {
    /// A panic in making the future is caught as well.
    pub(crate) fn call(make: impl FnOnce() -> F) -> Self {
        Self { future: caught(make).ok() }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.project().future.as_pin_mut() else {
            return Poll::Ready(Err(Panicked));
        };
        // Unwind safe: after a panic the future is never polled again.
        match caught(|| future.poll(context)) {
            Ok(poll) => Poll::Ready(Ok(ready!(poll))),
            Err(Panicked) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// A payload that panics as it is dropped would unwind through whoever settles the record; what *that* leaves behind is leaked.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(another);
        }
        Panicked
    })
}
