//! Events: delivered at least once, taking effect once.
//!
//! A broker delivers an event again whenever it does not know that the event was handled. A [`Consumer`] keeps one record
//! for each event in the store of its [`Idempotency`] runtime: the first delivery runs the handler, every other one gets
//! the first result. It answers each delivery with what to do about it:
//!
//! ```
//! # use idem_runtime::consumer::{Consumer, Delivery, Event};
//! # struct Message; impl Message { fn id(&self) -> &str { "" } fn bytes(&self) -> &'static [u8] { b"" } async fn ack(&self) {}
//! # async fn deliver_again(&self, after: std::time::Duration) {} }
//! # async fn charge(payload: &[u8]) -> Result<u32, std::io::Error> { Ok(1) }
//! async fn handle(consumer: &Consumer, message: Message) {
//!     let event = Event::new(message.id(), message.bytes());
//!     let payload = event.payload().clone();
//!     let done = consumer.process(event, |_attempt| async move { charge(&payload).await }).await;
//!     match Delivery::of(&done) {
//!         Delivery::Acknowledge => message.ack().await,
//!         Delivery::Retry { after } => message.deliver_again(after).await,
//!         // What is not acknowledged comes again.
//!         _ => {}
//!     }
//! }
//! ```
//!
//! What does not decode is for [`Consumer::park`], what was fetched together for [`Consumer::process_many`], and where
//! [`ProcessError::parked`] gives a reason, a dead letter is due before the acknowledgement.
//!
//! That loop, with everything that belongs to it, is there for two brokers: `redis_streams::Worker` (feature `redis-streams`)
//! and `nats::Worker` (feature `nats`).
//!
//! # What becomes of an event
//!
//! | what happened | what becomes of it |
//! |---|---|
//! | the handler returned a value | done: every other delivery gets the value |
//! | the handler returned an error or panicked | undone, one attempt counted; after [`Policy::max_attempts`] parked |
//! | the worker vanished | undone once the lease is out, one attempt counted |
//! | the worker vanished, or the handler panicked, under `financial` or `on_abandoned = refuse` | parked: nobody knows what it did |
//! | the handler panicked under `recover`, or called [`mark_unknown`](Attempt::mark_unknown) before its error | parked, likewise |
//! | the handler kept its [`Tx`](crate::Tx) when it had returned | undone, no attempt counted |
//! | its id was used with another payload | parked; the first event's record stays as it is |
//! | it has no id | parked, unless [`Missing::Run`](crate::Missing::Run) is written out |
//! | its bytes are not JSON where [`Policy::fingerprint`] reads JSON, or [`Consumer::park`] says so | parked |
//!
//! A parked event is kept in the store, with its payload, until [`redrive`](Consumer::redrive) or
//! [`settle`](Consumer::settle) is called; the broker may forget it. Only where its payload is larger than
//! [`max_answer_bytes`](crate::IdempotencySetup::max_answer_bytes) is it kept without ([`ParkedEvent::payload`]): where the broker
//! has the only copy, have the worker write dead letters.
//!
//! # In a transaction
//!
//! [`transact`](Consumer::transact) and [`process_in`](Consumer::process_in) make the event's record a part of the transaction
//! in which the handler writes, on Postgres or SQLite: a worker that is killed leaves both or neither. An event that was
//! abandoned under [`process`](Consumer::process) before is there as the table says.
//!
//! # Who the consumer is
//!
//! Its scope, and nothing else: two processes with one scope are one consumer, two scopes each run an event once. Records of
//! a consumer never meet those of requests or of [`execute`](crate::Idempotency::execute), whatever their scope.

mod attempt;
pub(crate) mod attribute;
mod batch;
mod event;
mod inbox;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
mod note;
mod operator;
mod outcome;
mod parked;
#[cfg(feature = "redis-streams")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis-streams")))]
pub mod redis_streams;
#[cfg(any(feature = "redis-streams", feature = "nats"))]
mod worker;

use std::{fmt, future::Future};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use self::{
    attempt::{Done, Given, Work},
    note::Note,
};
use crate::{
    Attempt, FingerprintRule, Idempotency, Policy,
    engine::{Granted, Operation, Ran, Recording, Refusal, Settled, Slot},
    fingerprint::Fingerprint,
    key::{EventName, StorageKey},
    record::{Answer, Kind},
    store::Resolved,
};

#[cfg(any(feature = "redis-streams", feature = "nats"))]
pub use self::worker::{BrokerError, BrokerErrorKind, RedriveError, WorkerMetrics};
pub use self::{
    event::{ConsumeError, Delivery, Event, ParkedReason, ProcessError, Processed},
    inbox::Undone,
    outcome::Outcome,
    parked::{ParkedEvent, Redriven},
};

/// Runs a handler once for every event. Cheap to clone; clones are one consumer.
///
/// ```
/// use idem_runtime::{Idempotency, MemoryStore, Policy, consumer::Event};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// // As long as the broker may deliver an event again, redrives included.
/// const POLICY: Policy = Policy::new("ship-orders").ttl(Duration::from_secs(7 * 24 * 60 * 60)).validate_for_events();
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
/// let consumer = idempotency.consumer(POLICY);
/// let event = Event::new("evt_1", r#"{"order":7}"#);
/// let first = consumer.process(event.clone(), |_| async { Ok::<_, std::io::Error>(42) }).await?;
/// let again = consumer.process(event, |_| async { Ok::<_, std::io::Error>(43) }).await?;
/// assert_eq!((first.value, first.duplicate), (42, false));
/// assert_eq!((again.value, again.duplicate), (42, true));
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Consumer {
    runtime: Idempotency,
    policy: Policy,
    at_once: usize,
}

/// What is to be done about an event before anything is asked of the store.
enum Entry {
    Guarded(Operation),
    Unguarded,
    Parked(ParkedReason),
}

/// What became of an event that is not to be run.
enum Parking {
    Parked,
    /// It was parked, and may run now, under a key of its own.
    Redriven,
}

/// What a delivery came to, and what others of the same event would get.
struct Concluded<T, E> {
    result: Result<Processed<T>, ProcessError<E>>,
    kept: Option<Answer>,
}

impl Idempotency {
    /// The consumer that `policy`'s scope names. Its key sources, key space and status rule do not matter here.
    ///
    /// # Panics
    /// As [`Policy::validate_for_events`], and for a policy with [`FingerprintRule::Function`]: an event is no request.
    pub fn consumer(&self, policy: Policy) -> Consumer {
        let policy = policy.validate_for_events();
        assert!(
            !matches!(policy.fingerprint_rule(), FingerprintRule::Function(_)),
            "a fingerprint of a consumer cannot be a function: it reads a request, and an event is none"
        );
        Consumer { runtime: self.clone(), policy, at_once: 16 }
    }
}

impl Consumer {
    /// How many handlers of one [batch](Self::process_many) run beside each other. Default: 16.
    #[must_use]
    pub const fn at_once(mut self, handlers: usize) -> Self {
        self.at_once = if handlers == 0 { 1 } else { handlers };
        self
    }

    /// Runs `handler` unless the event took effect before; then gives back what it returned the first time.
    ///
    /// `handler` runs to its end even if this future is dropped. A value is kept as JSON, so `T` must come out of its JSON as it
    /// went in: what does not, as after a deployment that changed `T`, is [`ConsumeError::NotKept`]. An `Err` says that nothing
    /// happened, unless the handler called [`mark_unknown`](Attempt::mark_unknown). The text of an error is kept with an event that
    /// is parked: its first 1024 bytes.
    ///
    /// # Errors
    /// [`ProcessError::Failed`] with the handler's own error, else [`ProcessError::Refused`]. Either says what to do about the
    /// delivery. Under a policy with [`transaction`](Policy::transaction), which this cannot keep, it is
    /// [`ConsumeError::NoTransaction`].
    pub async fn process<T, E, F, Fut>(&self, event: Event, handler: F) -> Result<Processed<T>, ProcessError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: fmt::Display + Send + 'static,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.refuse_transaction()?;
        let (engine, handler) = (self.runtime.engine(), Given::new(handler));
        let concluded = match self.enter(&event) {
            Entry::Unguarded => concluded(engine.run_unclaimed(|slot| run_once(handler, slot)).await),
            entry => {
                let run = |operation| {
                    let (work, handler) = (Work::new(self, &event), handler.clone());
                    async move { engine.run(&operation, move |granted| work.attempt(handler, granted.keep())).await }
                };
                self.handle(&event, entry, run).await
            }
        };
        concluded.result
    }

    /// As [`process`](Self::process) for a handler that ends with this future: it may borrow.
    pub(crate) async fn process_in_place<T, E, F, Fut>(
        &self,
        event: Event,
        handler: F,
    ) -> Result<Processed<T>, ProcessError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
        F: FnOnce(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let (engine, handler) = (self.runtime.engine(), Given::new(handler));
        let concluded = match self.enter(&event) {
            Entry::Unguarded => concluded(engine.run_unclaimed_in_place(|slot| run_once(handler, slot)).await),
            entry => {
                let run = |operation| {
                    let (work, handler) = (Work::new(self, &event), handler.clone());
                    engine.run_in_place(operation, move |granted| work.attempt(handler, granted.keep()))
                };
                self.handle(&event, entry, run).await
            }
        };
        concluded.result
    }

    /// Parks an event that cannot be handled as it is, because its bytes are not what they should be: `why` says it.
    ///
    /// It is found by its id, if it has one, and the digest of its payload, so parking it again changes nothing.
    ///
    /// # Errors
    /// When it is not in the store: [`ConsumeError::delivery`] says when to try again.
    pub async fn park(&self, event: &Event, why: impl fmt::Display) -> Result<(), ConsumeError> {
        let note = self.note(ParkedReason::Undecodable, Some(0), event).error(&why);
        match self.write_down(event, note).await {
            Ok(_) | Err(ConsumeError::NotKept) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the policy promises cannot be kept by a lease.
    fn refuse_transaction(&self) -> Result<(), ConsumeError> {
        if !self.policy.is_transaction() {
            return Ok(());
        }
        tracing::error!(scope = self.policy.scope_name(), "an event is not run: {}", ConsumeError::NoTransaction);
        Err(ConsumeError::NoTransaction)
    }

    fn enter(&self, event: &Event) -> Entry {
        let Some(id) = event.id() else {
            return if self.policy.runs_without_id() { Entry::Unguarded } else { Entry::Parked(ParkedReason::NoId) };
        };
        match Fingerprint::of_payload(self.policy.fingerprint_rule(), event.payload()) {
            Ok(fingerprint) => Entry::Guarded(self.operation(self.key(EventName::Id(id)), fingerprint)),
            Err(_) => Entry::Parked(ParkedReason::Undecodable),
        }
    }

    async fn handle<T: DeserializeOwned, E, Running>(
        &self,
        event: &Event,
        entry: Entry,
        run: impl Fn(Operation) -> Running,
    ) -> Concluded<T, E>
    where
        Running: Future<Output = Result<Ran<Done<T, E>>, Refusal>>,
    {
        match entry {
            Entry::Guarded(operation) => {
                let ran = run(operation).await;
                self.conclude(operation, event, ran, run).await
            }
            Entry::Parked(reason) => self.park_or_run(event, reason, run).await,
            // Run by the caller.
            Entry::Unguarded => Concluded::refused(ConsumeError::NO_ANSWER),
        }
    }

    /// What a delivery comes to, once the engine has spoken.
    async fn conclude<T: DeserializeOwned, E, Running>(
        &self,
        operation: Operation,
        event: &Event,
        ran: Result<Ran<Done<T, E>>, Refusal>,
        run: impl Fn(Operation) -> Running,
    ) -> Concluded<T, E>
    where
        Running: Future<Output = Result<Ran<Done<T, E>>, Refusal>>,
    {
        match ran {
            Err(Refusal::Mismatch) => self.park_or_run(event, ParkedReason::KeyReused, run).await,
            ran => self.conclude_one(operation, event, ran).await,
        }
    }

    /// As `conclude`, where a mismatch cannot be.
    async fn conclude_one<T: DeserializeOwned, E>(
        &self,
        operation: Operation,
        event: &Event,
        ran: Result<Ran<Done<T, E>>, Refusal>,
    ) -> Concluded<T, E> {
        match ran {
            Ok(Ran::Fresh(Done::Value { value, kept })) => Concluded { result: Ok(Processed::fresh(value)), kept },
            Ok(Ran::Stale(Done::Value { value, kept })) => {
                Concluded { result: Ok(Processed { lost_claim: true, ..Processed::fresh(value) }), kept }
            }
            Ok(
                Ran::Fresh(Done::Failed { error, attempt, parked })
                | Ran::Stale(Done::Failed { error, attempt, parked }),
            ) => Concluded { result: Err(ProcessError::Failed { error, attempt, parked }), kept: None },
            Ok(Ran::Fresh(Done::Refused(error)) | Ran::Stale(Done::Refused(error))) => Concluded::refused(error),
            Ok(Ran::Replay(kept)) => {
                let value = self.replay(&operation.key, &kept);
                Concluded { result: value.map_err(ProcessError::Refused), kept: Some(kept) }
            }
            Ok(Ran::Parked(note)) => Concluded::refused(ConsumeError::of_note(&note)),
            Err(Refusal::Unknown) => Concluded::refused(self.park_unknown(operation.key, event).await),
            Err(refusal) => Concluded::refused(ConsumeError::from_refusal(refusal, 1)),
        }
    }

    fn replay<T: DeserializeOwned>(&self, key: &StorageKey, kept: &Answer) -> Result<Processed<T>, ConsumeError> {
        let value = self.runtime.engine().replay_value(key, kept);
        value
            .map(|value| Processed { duplicate: true, ..Processed::fresh(value) })
            .map_err(|refusal| ConsumeError::from_refusal(refusal, 1))
    }

    /// Parks an event that is not to be run, or runs it if it was parked for the same reason and redriven.
    async fn park_or_run<T: DeserializeOwned, E, Running>(
        &self,
        event: &Event,
        reason: ParkedReason,
        run: impl Fn(Operation) -> Running,
    ) -> Concluded<T, E>
    where
        Running: Future<Output = Result<Ran<Done<T, E>>, Refusal>>,
    {
        match self.write_down(event, self.note(reason, Some(0), event)).await {
            Ok(Parking::Parked) => Concluded::refused(ConsumeError::Parked(reason)),
            Ok(Parking::Redriven) => {
                let operation = self.redriven(event, reason);
                let ran = run(operation).await;
                self.conclude_one(operation, event, ran).await
            }
            Err(error) => Concluded::refused(error),
        }
    }

    /// Parks under the key that the note's reason asks for.
    async fn write_down(&self, event: &Event, note: Note) -> Result<Parking, ConsumeError> {
        let reason = note.reason;
        let operation = self.parking(event, reason);
        let key = operation.key;
        let effect = move |_: Granted<'_>| async move {
            Settled { value: (), recording: Recording::Parked { note: note.seal(), ran: false } }
        };
        match self.runtime.engine().run(&operation, effect).await {
            Ok(Ran::Fresh(()) | Ran::Stale(())) => {
                tracing::warn!(%key, scope = self.policy.scope_name(), %reason, "an event was parked");
                Ok(Parking::Parked)
            }
            Ok(Ran::Parked(_)) => Ok(Parking::Parked),
            Ok(Ran::Replay(answer)) if answer.open(Kind::Redriven).is_ok() => Ok(Parking::Redriven),
            Ok(Ran::Replay(_)) => Err(ConsumeError::Unreadable),
            Err(refusal) => Err(ConsumeError::from_refusal(refusal, 1)),
        }
    }

    /// Parks an event whose record says that nobody knows what became of it.
    async fn park_unknown(&self, key: StorageKey, event: &Event) -> ConsumeError {
        let reason = ParkedReason::OutcomeUnknown;
        match self.runtime.engine().park_unknown(key, self.note(reason, None, event).seal()).await {
            Ok(Resolved::Applied) => {
                tracing::warn!(%key, scope = self.policy.scope_name(), %reason, "an event was parked");
                ConsumeError::Parked(reason)
            }
            // Somebody settled it meanwhile: the next delivery sees how.
            Ok(Resolved::NotUnknown) => ConsumeError::CHANGED,
            Err(error) => error.into(),
        }
    }

    fn note(&self, reason: ParkedReason, attempts: Option<u32>, event: &Event) -> Note {
        Note::new(&self.policy, reason, attempts, event, self.runtime.limits().max_answer_bytes)
    }

    fn operation(&self, key: StorageKey, fingerprint: Fingerprint) -> Operation {
        self.runtime.engine_operation(&self.policy, key, fingerprint)
    }

    /// To write down that an event is not to be run.
    fn parking(&self, event: &Event, reason: ParkedReason) -> Operation {
        let operation = self.operation(self.parking_key(event, reason), Fingerprint::of_bytes(b""));
        Operation { terms: operation.terms.of_parking(), ..operation }
    }

    /// Where an event is parked that is not to be run under its id.
    fn parking_key(&self, event: &Event, reason: ParkedReason) -> StorageKey {
        let payload: [u8; 32] = Sha256::digest(event.payload()).into();
        self.key(match (reason, event.id()) {
            (ParkedReason::Undecodable, id) => EventName::Undecodable { id, payload: &payload },
            (_, Some(id)) => EventName::Reused { id, payload: &payload },
            (_, None) => EventName::Anonymous(&payload),
        })
    }

    /// An event that was parked because of its id and redriven: an event of its own.
    fn redriven(&self, event: &Event, reason: ParkedReason) -> Operation {
        let parked = self.parking_key(event, reason);
        self.operation(self.key(EventName::Redriven(&parked)), Fingerprint::of_bytes(b""))
    }

    fn key(&self, event: EventName<'_>) -> StorageKey {
        self.runtime.event_key(&self.policy, event)
    }
}

impl<T, E> Concluded<T, E> {
    const fn refused(error: ConsumeError) -> Self {
        Self { result: Err(ProcessError::Refused(error)), kept: None }
    }
}

/// A handler without a record.
async fn run_once<T, E, F, Fut>(handler: Given<F>, slot: Slot) -> Result<Processed<T>, ProcessError<E>>
where
    F: FnOnce(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let Some(handler) = handler.take() else { return Err(ConsumeError::NO_ANSWER.into()) };
    match handler(Attempt::of(slot)).await {
        Ok(value) => Ok(Processed::fresh(value)),
        Err(error) => Err(ProcessError::Failed { error, attempt: 1, parked: false }),
    }
}

fn concluded<T, E>(ran: Result<Result<Processed<T>, ProcessError<E>>, Refusal>) -> Concluded<T, E> {
    let result = ran.unwrap_or_else(|refusal| Err(ConsumeError::from_refusal(refusal, 1).into()));
    Concluded { result, kept: None }
}
