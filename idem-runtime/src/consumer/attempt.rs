//! One attempt at an event, and what is to be recorded of it.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use super::{ConsumeError, Consumer, Event, ParkedReason};
use crate::{
    Attempt,
    engine::{CatchPanic, Recording, Settled, Terms, Won},
    record::Answer,
};

/// A handler on its way to the one claim that it runs under: which of an event's records that is, the store says.
pub(super) struct Given<F>(Arc<Mutex<Option<F>>>);

impl<F> Given<F> {
    pub(super) fn new(handler: F) -> Self {
        Self(Arc::new(Mutex::new(Some(handler))))
    }

    pub(super) fn take(&self) -> Option<F> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F> Clone for Given<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What an attempt came to.
pub(super) enum Done<T, E> {
    Value { value: T, kept: Option<Answer> },
    Failed { error: E, attempt: u32, parked: bool },
    Refused(ConsumeError),
}

/// An event that is about to be tried.
#[derive(Clone)]
pub(super) struct Work {
    consumer: Consumer,
    event: Event,
    max_attempts: u32,
    /// Whether nobody knows what a handler that panicked has done.
    unknowable: bool,
    /// What is not committed is undone.
    in_transaction: bool,
}

/// The error of an event whose workers did not live to tell one.
pub(super) const VANISHED: &str = "the worker of the last attempt vanished";

pub(super) const PANICKED: &str = "the handler panicked";

impl Work {
    pub(super) fn new(consumer: &Consumer, event: &Event) -> Self {
        Self {
            max_attempts: consumer.policy.attempts(),
            unknowable: Terms::of(&consumer.policy).refuses_abandoned(),
            in_transaction: false,
            consumer: consumer.clone(),
            event: event.clone(),
        }
    }

    /// The same in a transaction: what breaks off is undone.
    pub(super) fn in_transaction(self) -> Self {
        Self { unknowable: false, in_transaction: true, ..self }
    }

    /// The same in a transaction and without a record, in which it could be parked.
    pub(super) fn unguarded(self) -> Self {
        Self { max_attempts: u32::MAX, ..self.in_transaction() }
    }

    pub(super) async fn attempt<T, E, F, Fut>(self, handler: Given<F>, won: Won) -> Settled<Done<T, E>>
    where
        T: Serialize,
        E: fmt::Display,
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let attempt = won.number();
        let max = self.max_attempts;
        if attempt > max {
            return self.park(ParkedReason::Failed, max, VANISHED, false);
        }
        let Some(handler) = handler.take() else {
            return Settled { value: Done::Refused(ConsumeError::NO_ANSWER), recording: Recording::Release };
        };
        let tried = won.into_attempt();
        let lent = tried.clone();
        match CatchPanic::call(move || handler(lent)).await {
            Ok(Ok(value)) => self.keep(value),
            Ok(Err(error)) if tried.is_unknown() && !self.in_transaction => {
                self.park(ParkedReason::OutcomeUnknown, attempt, &error, true)
            }
            Ok(Err(error)) => {
                let recording = if attempt == max {
                    let note = self.consumer.note(ParkedReason::Failed, Some(attempt), &self.event).error(&error);
                    Recording::Parked { note: note.seal(), ran: true }
                } else {
                    Recording::Failed
                };
                Settled { value: Done::Failed { error, attempt, parked: attempt == max }, recording }
            }
            Err(_) => {
                self.consumer.runtime.engine().panicked();
                if self.unknowable {
                    self.park(ParkedReason::OutcomeUnknown, attempt, PANICKED, true)
                } else if attempt == max {
                    self.park(ParkedReason::Failed, attempt, PANICKED, true)
                } else {
                    let value = Done::Refused(ConsumeError::Panicked { attempt });
                    Settled { value, recording: Recording::Failed }
                }
            }
        }
    }

    pub(super) fn keep<T: Serialize, E>(&self, value: T) -> Settled<Done<T, E>> {
        let max = self.consumer.runtime.limits().max_answer_bytes;
        let kept = Answer::of_value(&value, max);
        // It ran: a value that cannot be kept is no reason to run it again.
        let recording = kept.clone().map_or(Recording::Tombstone, Recording::Answer);
        Settled { value: Done::Value { value, kept }, recording }
    }

    fn park<T, E>(
        &self,
        reason: ParkedReason,
        attempts: u32,
        error: &(impl ToString + ?Sized),
        ran: bool,
    ) -> Settled<Done<T, E>> {
        let note = self.consumer.note(reason, Some(attempts), &self.event).error(error);
        Settled {
            value: Done::Refused(ConsumeError::Parked(reason)),
            recording: Recording::Parked { note: note.seal(), ran },
        }
    }
}
