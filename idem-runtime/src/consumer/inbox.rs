//! Events whose effect is a database transaction: the event's record commits with it.

use std::{fmt, future::Future};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ConsumeError, Consumer, Entry, Event, ParkedReason, Parking, ProcessError, Processed,
    attempt::{Done, Given, PANICKED, VANISHED, Work},
};
use crate::{
    Attempt,
    engine::{self, CatchPanic, Ended, Operation, Place, Ran, Recording, Refusal, Slot, Tx, Won},
    record::Kind,
    store::Transactions,
};

/// An event that was not done in a transaction of the caller's own.
///
/// Roll the transaction back, then call [`settle`](Self::settle): only then is the attempt counted, in a transaction of its own,
/// or the event parked.
#[must_use = "roll back, then call `settle`: or the attempt is not counted"]
pub struct Undone<D: Transactions, E> {
    consumer: Consumer,
    store: D,
    event: Event,
    why: Why<E>,
}

enum Why<E> {
    /// `None`: it runs without a record.
    Failed {
        error: E,
        operation: Option<Operation>,
    },
    /// `None`: it runs without a record.
    Panicked(Option<Operation>),
    /// It is not to be run.
    NotRun(ParkedReason),
    /// The workers of all its attempts vanished.
    Exhausted(Operation),
    /// Nobody knows what became of it, outside of transactions.
    Unknown(Operation),
    Refused(ConsumeError),
}

/// A handler that is called once for each run.
struct Calls<D: Transactions, F> {
    attempt: Work,
    place: Place<D>,
    handler: F,
}

/// What a claim in the caller's transaction came to.
enum Joint<T, E, F> {
    Over(Result<Processed<T>, Why<E>>),
    /// The id was used with another payload; the handler is given back.
    Mismatch(F),
}

impl Consumer {
    /// As [`process`](Self::process) in a transaction of `store`: the event's record, what `handler` writes through the
    /// [`Tx`] and its value are committed together, or none of them is.
    ///
    /// Outgoing events written through the `Tx`, to be published from there, make an outbox beside the inbox.
    ///
    /// `store` is the one of the runtime, or the one that decides behind it. `handler` is run again when its
    /// transaction met another one, five runs in all. An `Err` rolls back, and so does a panic; then the attempt is
    /// counted in a transaction of its own. A worker that vanishes leaves no trace, so that attempt is not counted. Of
    /// what runs here nothing is ever unknown, whatever `financial` and `on_abandoned` say; they do say what becomes of
    /// an event that was abandoned under [`process`](Self::process), by a consumer that did not use transactions
    /// before.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    #[allow(
        clippy::manual_async_fn,
        reason = "rustc cannot see at every call that the future of an `async fn` is `Send`"
    )]
    pub fn transact<D, T, E, F, Fut>(
        &self,
        store: &D,
        event: Event,
        handler: F,
    ) -> impl Future<Output = Result<Processed<T>, ProcessError<E>>> + Send
    where
        D: Transactions,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Fn(Tx<D>, Attempt) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        async move {
            let reason = match self.enter(&event) {
                Entry::Parked(reason) => reason,
                Entry::Unguarded => {
                    let work = Work::new(self, &event).unguarded();
                    // No record has this key: it is only what a replay would be counted under.
                    let operation = self.redriven(&event, ParkedReason::NoId);
                    let ran = self.run_in_transaction(store, None, work, handler).await;
                    return self.conclude_one(operation, &event, ran).await.result;
                }
                Entry::Guarded(operation) => {
                    let work = Work::new(self, &event).in_transaction();
                    match self.run_in_transaction(store, Some(operation), work, handler.clone()).await {
                        Err(Refusal::Mismatch) => ParkedReason::KeyReused,
                        ran => return self.conclude_one(operation, &event, ran).await.result,
                    }
                }
            };
            match self.write_down(&event, self.note(reason, Some(0), &event)).await? {
                Parking::Parked => Err(ConsumeError::Parked(reason).into()),
                Parking::Redriven => {
                    let operation = self.redriven(&event, reason);
                    let work = Work::new(self, &event).in_transaction();
                    let ran = self.run_in_transaction(store, Some(operation), work, handler).await;
                    self.conclude_one(operation, &event, ran).await.result
                }
            }
        }
    }

    async fn run_in_transaction<D, T, E, F, Fut>(
        &self,
        store: &D,
        operation: Option<Operation>,
        attempt: Work,
        handler: F,
    ) -> Result<Ran<Done<T, E>>, Refusal>
    where
        D: Transactions,
        T: Serialize + Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Fn(Tx<D>, Attempt) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let place = Place::default();
        let calls = Calls { attempt, place: place.clone(), handler };
        self.runtime.engine().transact(store.clone(), place, operation, calls).await
    }

    /// As [`process`](Self::process) in a transaction of the caller's own, open on `connection`: the event's record, what
    /// `handler` writes and its value are part of it. The caller commits, and acknowledges after that.
    ///
    /// ```
    /// # use idem_runtime::{consumer::{ConsumeError, Consumer, Event, ProcessError, Processed}, store::Transactions};
    /// # use std::io;
    /// # async fn ship<C>(_: &mut C) -> Result<u32, io::Error> { Ok(1) }
    /// async fn handle<D: Transactions>(
    ///     consumer: &Consumer,
    ///     store: &D,
    ///     event: Event,
    /// ) -> Result<Processed<u32>, ProcessError<io::Error>> {
    ///     let mut transaction = store.begin().await.map_err(ConsumeError::from)?;
    ///     let done = consumer.process_in(store, &mut transaction, event, async |connection, _attempt| ship(connection).await).await;
    ///     match done {
    ///         Ok(done) => {
    ///             store.commit(transaction).await.map_err(ConsumeError::from)?;
    ///             Ok(done)
    ///         }
    ///         Err(undone) => {
    ///             store.rollback(transaction).await;
    ///             Err(undone.settle().await)
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// A panic of `handler` is caught, and counts as an error does. An event without an id runs without a record where
    /// `missing = run` is chosen.
    ///
    /// # Errors
    /// [`Undone`]: roll back, then [settle](Undone::settle) it. **After an error the transaction must not be committed.**
    pub async fn process_in<D, T, E, F>(
        &self,
        store: &D,
        connection: &mut D::Connection,
        event: Event,
        handler: F,
    ) -> Result<Processed<T>, Undone<D, E>>
    where
        D: Transactions,
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
        F: AsyncFnOnce(&mut D::Connection, Attempt) -> Result<T, E>,
    {
        match self.try_in(store, connection, &event, handler).await {
            Ok(done) => Ok(done),
            Err(why) => Err(Undone { consumer: self.clone(), store: store.clone(), event, why }),
        }
    }

    async fn try_in<D, T, E, F>(
        &self,
        store: &D,
        connection: &mut D::Connection,
        event: &Event,
        handler: F,
    ) -> Result<Processed<T>, Why<E>>
    where
        D: Transactions,
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
        F: AsyncFnOnce(&mut D::Connection, Attempt) -> Result<T, E>,
    {
        let (reason, handler) = match self.enter(event) {
            Entry::Parked(reason) => (reason, handler),
            Entry::Unguarded => {
                let slot = Slot::default();
                self.runtime.engine().fill_unclaimed(&slot);
                let value = CatchPanic::call(|| handler(connection, Attempt::of(slot))).await;
                return match value {
                    Ok(Ok(value)) => Ok(Processed::fresh(value)),
                    Ok(Err(error)) => Err(Why::Failed { error, operation: None }),
                    Err(_) => Err(Why::Panicked(None)),
                };
            }
            Entry::Guarded(operation) => match self.run_joined(store, connection, operation, event, handler).await {
                Joint::Mismatch(handler) => (ParkedReason::KeyReused, handler),
                Joint::Over(result) => return result,
            },
        };
        // Whether it was parked for this before, and redriven.
        let operation = self.parking(event, reason);
        match self.runtime.engine().join::<D, ()>(store, connection, &operation).await {
            Ok(_) => Err(Why::NotRun(reason)),
            Err(Ok(Ran::Replay(answer))) if answer.open(Kind::Redriven).is_ok() => {
                let operation = self.redriven(event, reason);
                match self.run_joined(store, connection, operation, event, handler).await {
                    Joint::Over(result) => result,
                    // Never: events that are redriven are told apart by their key.
                    Joint::Mismatch(_) => Err(Why::Refused(ConsumeError::Unreadable)),
                }
            }
            Err(known) => self.known(&operation, known),
        }
    }

    /// One claim in the caller's transaction, and the handler if it was won.
    async fn run_joined<D, T, E, F>(
        &self,
        store: &D,
        connection: &mut D::Connection,
        operation: Operation,
        event: &Event,
        handler: F,
    ) -> Joint<T, E, F>
    where
        D: Transactions,
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
        F: AsyncFnOnce(&mut D::Connection, Attempt) -> Result<T, E>,
    {
        let joined = match self.runtime.engine().join::<D, ()>(store, connection, &operation).await {
            Ok(joined) => joined,
            Err(Err(Refusal::Mismatch)) => return Joint::Mismatch(handler),
            Err(known) => return Joint::Over(self.known(&operation, known)),
        };
        let won = joined.won();
        if won.number() > self.policy.attempts() {
            return Joint::Over(Err(Why::Exhausted(operation)));
        }
        let value = match CatchPanic::call(|| handler(connection, won.into_attempt())).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return Joint::Over(Err(Why::Failed { error, operation: Some(operation) })),
            Err(_) => return Joint::Over(Err(Why::Panicked(Some(operation)))),
        };
        let settled = Work::new(self, event).keep::<T, E>(value);
        Joint::Over(match joined.complete(store, connection, settled).await {
            Ok(Ran::Fresh(Done::Value { value, .. })) => Ok(Processed::fresh(value)),
            Ok(_) => Err(Why::Refused(ConsumeError::Unreadable)),
            Err(refusal) => Err(Why::Refused(ConsumeError::from_refusal(refusal, 1))),
        })
    }

    /// Counts an attempt that is undone, and parks its event if it was the last. Which attempt it was, and whether it is parked.
    async fn count_undone<D: Transactions>(
        &self,
        store: &D,
        event: &Event,
        operation: Operation,
        error: &impl fmt::Display,
    ) -> (u32, bool) {
        let max = self.policy.attempts();
        let mut attempt = 1;
        let recording = |number| {
            attempt = number;
            if number >= max { self.failed_for_good(event, number, error, true) } else { Recording::Failed }
        };
        let settled = self.runtime.engine().settle_apart(store, operation, operation.claim(), recording).await;
        (attempt, settled.is_ok() && attempt >= max)
    }

    fn failed_for_good(&self, event: &Event, attempts: u32, error: &impl fmt::Display, ran: bool) -> Recording {
        let note = self.note(ParkedReason::Failed, Some(attempts), event).error(error);
        Recording::Parked { note: note.seal(), ran }
    }

    fn known<T: DeserializeOwned, E>(
        &self,
        operation: &Operation,
        known: Result<Ran<()>, Refusal>,
    ) -> Result<Processed<T>, Why<E>> {
        Err(Why::Refused(match known {
            Ok(Ran::Replay(kept)) => return self.replay(&operation.key, &kept).map_err(Why::Refused),
            Ok(Ran::Parked(note)) => ConsumeError::of_note(&note),
            Ok(Ran::Fresh(()) | Ran::Stale(())) => ConsumeError::Unreadable,
            Err(Refusal::Unknown) => return Err(Why::Unknown(*operation)),
            Err(refusal) => ConsumeError::from_refusal(refusal, 1),
        }))
    }
}

impl<D: Transactions, E: fmt::Display> Undone<D, E> {
    /// Counts the attempt, or parks the event. To be called once the transaction is rolled back.
    pub async fn settle(self) -> ProcessError<E> {
        let Self { consumer, store, event, why } = self;
        let engine = consumer.runtime.engine();
        let max = consumer.policy.attempts();
        ProcessError::Refused(match why {
            Why::Failed { error, operation: None } => {
                return ProcessError::Failed { error, attempt: 1, parked: false };
            }
            Why::Failed { error, operation: Some(operation) } => {
                let (attempt, parked) = consumer.count_undone(&store, &event, operation, &error).await;
                return ProcessError::Failed { error, attempt, parked };
            }
            Why::Panicked(operation) => {
                engine.panicked();
                let (attempt, parked) = match operation {
                    Some(operation) => consumer.count_undone(&store, &event, operation, &PANICKED).await,
                    None => (1, false),
                };
                match parked {
                    true => ConsumeError::Parked(ParkedReason::Failed),
                    false => ConsumeError::Panicked { attempt },
                }
            }
            Why::Exhausted(operation) => {
                let recording = |_| consumer.failed_for_good(&event, max, &VANISHED, false);
                match engine.settle_apart(&store, operation, operation.claim(), recording).await {
                    Ok(()) => ConsumeError::Parked(ParkedReason::Failed),
                    Err(kind) => ConsumeError::unavailable(kind),
                }
            }
            Why::NotRun(reason) => match consumer.write_down(&event, consumer.note(reason, Some(0), &event)).await {
                Ok(Parking::Parked) => ConsumeError::Parked(reason),
                // Since the claim: the next delivery runs.
                Ok(Parking::Redriven) => ConsumeError::CHANGED,
                Err(error) => error,
            },
            // That it was found so is undone.
            Why::Unknown(operation) => match engine.is_unknown(&store, &operation).await {
                Ok(true) => consumer.park_unknown(operation.key, &event).await,
                Ok(false) => ConsumeError::CHANGED,
                Err(error) => {
                    tracing::warn!(key = %operation.key, %error, "an unknown outcome could not be parked");
                    error.into()
                }
            },
            Why::Refused(error) => error,
        })
    }
}

impl<D: Transactions, E> fmt::Debug for Undone<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undone").field("event", &self.event).finish_non_exhaustive()
    }
}

impl<D, T, E, F, Fut> engine::Work for Calls<D, F>
where
    D: Transactions,
    T: Serialize + Send + 'static,
    E: fmt::Display + Send + 'static,
    F: Fn(Tx<D>, Attempt) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    type Value = Done<T, E>;

    async fn ready(&mut self) -> Result<(), Self::Value> {
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "a run whose `Tx` still lives is the last one")]
    async fn run(&mut self, won: Won) -> Ended<Self::Value> {
        let tx = self.place.hand_out().expect("the `Tx` of the last run is gone");
        let handler = self.handler.clone();
        let handler = Given::new(move |attempt| handler(tx, attempt));
        let settled = self.attempt.clone().attempt(handler, won).await;
        Ended { settled, undo: false }
    }
}
