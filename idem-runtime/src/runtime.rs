//! The handle that everything is asked through.

mod operator;
mod transact;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    engine::{
        self, Attempt, DetachedRun, Drained, Engine, Metrics, OnDetach, Ran, Recording, Recovery, Refusal, Settled,
        Terms,
    },
    fingerprint::Fingerprint,
    http::{PrincipalSource, Rejection},
    key::{EndpointName, EventName, Pepper, Principal, StorageKey},
    policy::Policy,
    record::Answer,
    recovery::{Context, Settlement},
    store::{Resolved, Store, StoreError},
};

/// The runtime: one store, the principal rule, the limits. Cheap to clone; clones are one runtime.
///
/// Give it to the router's state, so that guarded handlers find it through
/// [`FromRef`](axum::extract::FromRef), or to an [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// ```
/// use idem_runtime::{Idempotency, MemoryStore};
///
/// let idempotency = Idempotency::builder(MemoryStore::new()).principal_from_header("x-account").build();
/// ```
#[derive(Debug, Clone)]
pub struct Idempotency(Engine);

/// What the engine does not ask for, and carries: one handle for both is one count for both.
#[derive(Debug)]
pub(crate) struct Settings {
    principal: PrincipalSource,
    pepper: Option<Pepper>,
    limits: Limits,
    pub(crate) max_waiting: usize,
    pub(crate) on_detach: OnDetach,
}

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_answer_bytes: usize,
    pub(crate) answer_deadline: Duration,
    pub(crate) body_deadline: Duration,
}

/// The first step of a runtime: it is not known yet whose keys they are, so it cannot be built.
#[derive(Debug)]
#[must_use = "choose a principal, then build"]
pub struct IdempotencyBuilder {
    store: Arc<dyn Store>,
}

/// A runtime that knows whose keys they are. Only said aloud when [`IdempotencyBuilder`] is built too early.
#[diagnostic::on_unimplemented(
    message = "whose keys are they? the runtime cannot be built before that is chosen",
    label = "choose the principal first",
    note = "write `.principal_from_header(\"x-account\")`, `.principal_from_fn(..)` or `.shared()` before `.build()`"
)]
pub trait PrincipalChosen {
    /// The second step.
    fn setup(self) -> IdempotencySetup;
}

/// The second step of a runtime: everything has a default now.
#[derive(Debug)]
#[must_use = "nothing is set up before `build`"]
pub struct IdempotencySetup {
    store: Arc<dyn Store>,
    settings: Settings,
    max_in_flight: usize,
    recovery: Recovery,
}

/// One operation for [`Idempotency::execute`]: a policy, whose key it is, and the key.
#[derive(Clone)]
#[must_use = "an operation does nothing until it is executed"]
pub struct Operation {
    policy: Policy,
    principal: Principal,
    key: String,
    endpoint: Option<(String, String)>,
    /// `None`: nobody has said it.
    fingerprint: Option<Fingerprint>,
}

/// What [`Idempotency::execute`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed<T> {
    /// What the effect returned, now or the first time.
    pub value: T,
    /// Whether it ran before: `value` is what it returned then.
    pub replayed: bool,
    /// Whether the claim was lost while the effect ran, as by standing still for longer than its lease: somebody else took the
    /// operation over, so that it ran twice. `value` is what this run returned; every retry gets the other's.
    pub lost_claim: bool,
}

/// Why [`Idempotency::execute`] has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The effect ran and failed; the key is free again, or the outcome unknown if the effect said so.
    Effect(E),
    /// The effect did not run for this caller, or panicked.
    Refused(Refusal),
}

impl Idempotency {
    /// Starts a runtime on `store`.
    pub fn builder(store: impl Store) -> IdempotencyBuilder {
        Self::builder_shared(Arc::new(store))
    }

    /// Starts a runtime on a store that is shared with others or chosen at run time.
    pub fn builder_shared(store: Arc<dyn Store>) -> IdempotencyBuilder {
        IdempotencyBuilder { store }
    }

    /// Runs `effect` unless the operation ran before; then gives back what it returned the first time.
    ///
    /// `effect` runs to its end even if this future is dropped. A value is kept as JSON, so `T` must be owned and come out of
    /// its JSON as it went in: what does not, as after a deployment that changed `T`, is [`Refusal::NotKept`]. An `Err` frees the
    /// key: the next call runs, unless the effect called [`mark_unknown`](Attempt::mark_unknown).
    ///
    /// ```
    /// # async fn example(idempotency: idem_runtime::Idempotency) -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_runtime::{Fingerprint, Operation, Policy, Principal};
    ///
    /// const INVOICES: Policy = Policy::new("invoices").validate();
    ///
    /// let cents: u64 = 19_99;
    /// let operation = Operation::new(INVOICES, Principal::new("acct_1"), "2026-11").fingerprint(Fingerprint::of_json(&cents)?);
    /// let invoice = idempotency
    ///     .execute(operation, |attempt| async move { Ok::<_, std::io::Error>(attempt.number()) })
    ///     .await?;
    /// assert!(!invoice.replayed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ExecuteError::Effect`] with the effect's own error, else [`ExecuteError::Refused`]:
    /// [`NoTransaction`](Refusal::NoTransaction) under a policy with [`transaction`](Policy::transaction), which this
    /// cannot keep; [`NoFingerprint`](Refusal::NoFingerprint) under a [`financial`](Policy::financial) one, where the
    /// operation does not say [what it is used with](Operation::fingerprint).
    pub async fn execute<T, E, F, Fut>(&self, operation: Operation, effect: F) -> Result<Executed<T>, ExecuteError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let max = self.limits().max_answer_bytes;
        if operation.policy.is_transaction() {
            return Err(ExecuteError::Refused(Refusal::NoTransaction));
        }
        let operation = self.operation_to_run(&operation).map_err(ExecuteError::Refused)?;
        let run = self.0.run(&operation, move |granted| {
            let attempt = granted.keep().into_attempt();
            async move {
                let value = effect(attempt.clone()).await;
                let recording = match recording(&value, max) {
                    Recording::Release if attempt.is_unknown() => Recording::Unknown,
                    recording => recording,
                };
                Settled { value, recording }
            }
        });
        self.executed(&operation, run.await)
    }

    /// Settles an operation whose outcome is unknown, on an operator's word. So it is as well, before anybody has asked, once the lease of
    /// an owner that vanished is out and [`on_abandoned`](Policy::on_abandoned) is not `retry`. What this process still runs it leaves alone,
    /// even past its lease.
    ///
    /// # Errors
    /// When the store gives no answer; the record is then as it was, or settled.
    pub async fn resolve(&self, operation: &Operation, settlement: Settlement) -> Result<Resolved, StoreError> {
        let verdict = settlement.verdict(operation.policy.answer_kept(), operation.policy.remembered());
        // Nothing runs without a name, so nothing is unknown.
        let Ok(operation) = self.operation(operation) else { return Ok(Resolved::NotUnknown) };
        self.0.resolve(&operation, verdict).await
    }

    /// Waits until no operation runs and no outcome waits for the store, at most for `deadline`.
    ///
    /// Call it after the server has stopped: `with_graceful_shutdown` does not wait for operations whose client is gone.
    ///
    /// What runs in a transaction of the caller's own, by [`execute_in`](Self::execute_in) or a consumer's
    /// [`process_in`](crate::consumer::Consumer::process_in), is not waited for: who commits it sees to that.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.0.drain(deadline).await
    }

    /// What happened so far.
    pub fn metrics(&self) -> Metrics {
        self.0.metrics()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.settings().limits
    }

    pub(crate) fn principal(&self, parts: &Parts) -> Result<Principal, Rejection> {
        self.0.settings().principal.find(parts)
    }

    pub(crate) fn request_key(
        &self,
        policy: &Policy,
        principal: &Principal,
        key: &str,
        endpoint: Option<EndpointName<'_>>,
    ) -> StorageKey {
        StorageKey::of(policy, principal, key, endpoint, self.0.settings().pepper.as_ref())
    }

    pub(crate) fn event_key(&self, policy: &Policy, event: EventName<'_>) -> StorageKey {
        StorageKey::of_event(policy, event, self.0.settings().pepper.as_ref())
    }

    /// An operation as the engine and the store know it.
    pub(crate) fn engine_operation(
        &self,
        policy: &Policy,
        key: StorageKey,
        fingerprint: Fingerprint,
    ) -> engine::Operation {
        let pepper = self.0.settings().pepper.as_ref();
        let fingerprint = pepper.map_or(fingerprint, |pepper| pepper.seal(fingerprint));
        engine::Operation { key, fingerprint, terms: Terms::of(policy) }
    }

    /// What a caller is told of its value.
    fn executed<T: DeserializeOwned, E>(
        &self,
        operation: &engine::Operation,
        ran: Result<Ran<Result<T, E>>, Refusal>,
    ) -> Result<Executed<T>, ExecuteError<E>> {
        match ran {
            Ok(Ran::Fresh(Ok(value))) => Ok(Executed { value, replayed: false, lost_claim: false }),
            Ok(Ran::Stale(Ok(value))) => Ok(Executed { value, replayed: false, lost_claim: true }),
            Ok(Ran::Fresh(Err(error)) | Ran::Stale(Err(error))) => Err(ExecuteError::Effect(error)),
            Ok(Ran::Replay(answer)) => {
                let value = self.0.replay_value(&operation.key, &answer);
                value.map(|value| Executed { value, replayed: true, lost_claim: false }).map_err(ExecuteError::Refused)
            }
            Ok(Ran::Parked(_)) => Err(ExecuteError::Refused(Refusal::Unknown)),
            Err(refusal) => Err(ExecuteError::Refused(refusal)),
        }
    }

    fn operation_to_run(&self, operation: &Operation) -> Result<engine::Operation, Refusal> {
        // Another amount under the same key would be answered with the first one's value.
        if operation.policy.is_financial() && operation.fingerprint.is_none() {
            return Err(Refusal::NoFingerprint);
        }
        self.operation(operation)
    }

    fn operation(&self, operation: &Operation) -> Result<engine::Operation, Refusal> {
        if operation.key.is_empty() || operation.principal.is_unnamed() {
            return Err(Refusal::Unnamed);
        }
        let endpoint = operation.endpoint.as_ref().map(|(method, path)| EndpointName { method, path });
        let key = self.request_key(&operation.policy, &operation.principal, &operation.key, endpoint);
        Ok(self.engine_operation(&operation.policy, key, operation.fingerprint.unwrap_or_else(any_input)))
    }
}

/// Of an operation whose every use is the same.
fn any_input() -> Fingerprint {
    Fingerprint::of_bytes(b"")
}

/// What is kept of an effect's value of at most `max` bytes.
fn recording<T: Serialize, E>(value: &Result<T, E>, max: usize) -> Recording {
    match value {
        Err(_) => Recording::Release,
        // It ran: a value that cannot be kept is no reason to run it again.
        Ok(value) => Answer::of_value(value, max).map_or(Recording::Tombstone, Recording::Answer),
    }
}

impl IdempotencyBuilder {
    /// The caller is the value of this header, set by whatever authenticates in front of this service. A request
    /// without it is refused with 400 `principal-missing`.
    ///
    /// Not the `authorization` header: its token changes while the caller stays.
    ///
    /// # Panics
    /// When `name` is not a header name.
    pub fn principal_from_header(self, name: &str) -> IdempotencySetup {
        self.principal(PrincipalSource::header(name))
    }

    /// The caller is what `find` makes of the request; `None`, or an empty name, is refused with 400 `principal-missing`.
    ///
    /// In a nested router `uri` is without the prefix: look for a tenant in axum's `OriginalUri`, one of the extensions.
    pub fn principal_from_fn(
        self,
        find: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> IdempotencySetup {
        self.principal(PrincipalSource::function(find))
    }

    /// All callers are one: whoever sends a key that somebody else has used gets that one's answer. Right only
    /// behind an endpoint that serves one party.
    pub fn shared(self) -> IdempotencySetup {
        self.principal(PrincipalSource::Shared)
    }

    /// Never to be called: it is here to say what is missing. The binder keeps rustc from refusing the bound right here.
    #[doc(hidden)]
    #[must_use]
    pub fn build(self) -> Idempotency
    where
        for<'missing> Self: PrincipalChosen,
    {
        self.setup().build()
    }

    fn principal(self, principal: PrincipalSource) -> IdempotencySetup {
        IdempotencySetup {
            store: self.store,
            settings: Settings::new(principal),
            max_in_flight: 10_000,
            recovery: Recovery { context: Context::default(), deadline: Duration::from_secs(10) },
        }
    }
}

impl Settings {
    pub(crate) fn new(principal: PrincipalSource) -> Self {
        let limits = Limits {
            max_answer_bytes: 1 << 20,
            answer_deadline: Duration::from_secs(30),
            body_deadline: Duration::from_secs(30),
        };
        Self { principal, pepper: None, limits, max_waiting: 10_000, on_detach: OnDetach::default() }
    }
}

impl IdempotencySetup {
    /// A secret mixed into every storage key and fingerprint (HMAC), so that whoever reads the store cannot test guesses against it: of a
    /// key, or of what a request holds, such as a card's number. Another secret makes every stored record unfindable.
    pub fn pepper(mut self, secret: &[u8]) -> Self {
        self.settings.pepper = Some(Pepper::new(secret));
        self
    }

    /// How many operations may be in flight in this process, counted from their claim; more are refused with 503
    /// `overloaded`. Default: 10,000.
    ///
    /// What runs in a transaction of the caller's own, by [`execute_in`](Idempotency::execute_in) or a consumer's
    /// [`process_in`](crate::consumer::Consumer::process_in), is not counted: its connection is the limit.
    pub const fn max_in_flight(mut self, operations: usize) -> Self {
        self.max_in_flight = operations;
        self
    }

    /// How many duplicates may wait in this process for the answer of another request, under [`OnConflict::Wait`](crate::OnConflict::Wait)
    /// or for a transaction of this process; more are refused with 409 `in-flight` at once. Default: 10,000.
    ///
    /// They are not in flight: each holds its request and no more, and of those that wait for one key one asks the store.
    pub const fn max_waiting(mut self, duplicates: usize) -> Self {
        self.settings.max_waiting = duplicates;
        self
    }

    /// How many bytes of an answer's body are kept. A larger answer reaches the first client whole, and retries get 409
    /// `response-not-kept`. Default: 1 MiB.
    pub const fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.max_answer_bytes = bytes;
        self
    }

    /// How long an answer's body may take to be complete; after that it is passed on and not kept. Default: 30 seconds.
    pub const fn answer_deadline(mut self, deadline: Duration) -> Self {
        self.settings.limits.answer_deadline = deadline;
        self
    }

    /// How long a request's body may take to arrive; after that the request is refused with 408. Default: 30 seconds.
    pub const fn body_deadline(mut self, deadline: Duration) -> Self {
        self.settings.limits.body_deadline = deadline;
        self
    }

    /// What recovery functions reach the world through, such as the client of a payment provider: they find it by its type with
    /// [`Unsettled::context`](crate::Unsettled::context). One value for each type; a second one replaces the first.
    pub fn context<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.recovery.context.insert(value);
        self
    }

    /// How long a recovery function may take; after that the outcome stays unknown, and the next request asks again. Default: 10
    /// seconds.
    pub const fn recovery_deadline(mut self, deadline: Duration) -> Self {
        self.recovery.deadline = deadline;
        self
    }

    /// What the rest of a handler takes along when its caller is gone: a disconnect, or a time-out around it.
    ///
    /// As long as the caller waits, a handler runs where it was called, with the task-locals of the layers around it. Handed to the
    /// runtime it keeps its `tracing` span and nothing else: a task-local that it reads then, as axum's way to pass state to an
    /// `IntoResponse` does, is not set, which panics. `carry` is called while the caller's task-locals are still set, and returns the
    /// run with what it needs around it. It must not panic, and must not keep the run back.
    ///
    /// ```
    /// use idem_runtime::{Idempotency, MemoryStore};
    ///
    /// tokio::task_local! {
    ///     static USER: String;
    /// }
    ///
    /// let idempotency = Idempotency::builder(MemoryStore::new())
    ///     .shared()
    ///     .on_detach(|run| match USER.try_with(Clone::clone) {
    ///         Ok(user) => Box::pin(USER.scope(user, run)),
    ///         Err(_) => run,
    ///     })
    ///     .build();
    /// ```
    pub fn on_detach(mut self, carry: impl Fn(DetachedRun) -> DetachedRun + Send + Sync + 'static) -> Self {
        self.settings.on_detach = OnDetach::new(carry);
        self
    }

    /// The runtime.
    #[must_use]
    pub fn build(self) -> Idempotency {
        let Self { store, settings, max_in_flight, recovery } = self;
        Idempotency(Engine::new(store, max_in_flight, recovery, settings))
    }
}

impl PrincipalChosen for IdempotencySetup {
    fn setup(self) -> Self {
        self
    }
}

impl Operation {
    /// The operation that `principal` calls `key`, under `policy`. The policy's key sources do not matter here.
    ///
    /// An empty key, or a principal with an empty name, is refused when it is executed ([`Refusal::Unnamed`]): whoever forgot to
    /// write one would share a record with everybody who did.
    ///
    /// # Panics
    /// As [`Policy::validate_for_events`], which needs no `key`.
    pub fn new(policy: Policy, principal: Principal, key: impl Into<String>) -> Self {
        let policy = policy.validate_for_events();
        Self { policy, principal, key: key.into(), endpoint: None, fingerprint: None }
    }

    /// What the key is used with: another fingerprint is refused as a mismatch. Without one any use is the same, which an operation
    /// under a [`financial`](Policy::financial) policy must say in so many words: [`any_input`](Self::any_input).
    pub const fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// Whatever the key is used with, it is the same operation: a call with another amount gets the value of the first one. Right
    /// where the key alone says what is to be done.
    pub fn any_input(mut self) -> Self {
        self.fingerprint = Some(any_input());
        self
    }

    /// The operation of an HTTP endpoint, for [`Idempotency::resolve`], [`forget`](Idempotency::forget) and
    /// [`storage_key`](Idempotency::storage_key): its method and the path the client sent.
    ///
    /// Where a layer or a handler replaced the target before it came to the guard, that path, a space and the new one,
    /// as in `/acme/pay/ /pay`; behind it `?` and the new query, if that is another one too, as in
    /// `/batch /items?id=7`.
    pub fn endpoint(mut self, method: &http::Method, path: impl Into<String>) -> Self {
        self.endpoint = Some((method.as_str().to_owned(), path.into()));
        self
    }
}

/// Never the key.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("scope", &self.policy.scope_name())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl<E: fmt::Display> fmt::Display for ExecuteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ExecuteError<E> {
    // What either says is said above.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Effect(error) => error.source(),
            Self::Refused(refusal) => std::error::Error::source(refusal),
        }
    }
}
