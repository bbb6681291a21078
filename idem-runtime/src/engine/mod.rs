//! Claim, run, renew, settle: what happens to one guarded operation, whoever asked for it.
//!
//! No HTTP and no driver: the engine is given an [`Operation`] and an effect, asks a [`Store`], and answers with what the
//! effect returned, with the answer kept from the first run, or with a [`Refusal`].
//!
//! ```text
//! run ── claim ──┬─ won ─────── effect, lease renewed beside it ── complete or release ── value
//!                ├─ completed ─ replay
//!                ├─ busy ────── refuse, or wait and claim again
//!                ├─ parked ──── its note
//!                └─ mismatch, unknown, unreadable, no answer ── refuse
//! ```
//!
//! From the claim on everything is one future, `Detached`: polled in place, and handed to the
//! runtime when its caller drops it.

mod aftermath;
mod attempt;
mod batch;
mod catch;
mod claiming;
mod detach;
mod gate;
mod in_place;
mod lease;
mod metrics;
mod recover;
mod refusal;
mod span;
mod step;
mod tracker;
mod transact;
mod tx;
mod undone;
mod wait;

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use self::{
    aftermath::Aftermath,
    attempt::NO_FENCE,
    catch::Panicked,
    claiming::{Claiming, Turn},
    detach::{Detached, FirstRuntime},
    gate::Gates,
    lease::{HeldLease, Leases},
    metrics::Counters,
    recover::Asked,
    step::{Closing, ask_again, known, unclaimed, until_answered},
    tracker::{Permit, Tracker},
    wait::Waiters,
};
use crate::{
    clock::micros,
    decode::decode,
    fingerprint::Fingerprint,
    key::StorageKey,
    policy::{OnAbandoned, OnConflict, OnStoreError, Policy},
    record::{Answer, Kind},
    runtime::Settings,
    store::{
        Abandoned, Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Release, Renew, Resolve, Resolved, Store,
        StoreError, StoreErrorKind, Token, Verdict,
    },
};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use self::tx::Conflict;
pub use self::{attempt::Attempt, detach::DetachedRun, metrics::Metrics, refusal::Refusal, tracker::Drained, tx::Tx};
pub(crate) use self::{
    attempt::{Granted, Slot, Won, fill},
    catch::CatchPanic,
    detach::OnDetach,
    recover::Recovery,
    refusal::no_answer,
    transact::{Ended, Work},
    tx::Place,
};

/// One store, all that this process knows of the operations it runs on it, and the settings of the runtime in front of it.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Shared>);

/// What everybody reads, apart from the count of the handles, which everybody writes.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    store: Arc<dyn Store>,
    counters: Counters,
    tracker: Tracker,
    leases: Leases,
    waiters: Waiters,
    gates: Gates,
    aftermath: Aftermath,
    recovery: Recovery,
    asked: Asked,
    runtime: FirstRuntime,
    settings: Settings,
}

/// What is to run at most once, and on which terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) key: StorageKey,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) terms: Terms,
}

/// The part of a [`Policy`] that the engine keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    scope: &'static str,
    ttl: Duration,
    remember: Duration,
    lease: Duration,
    renew_for: Option<Duration>,
    on_conflict: OnConflict,
    on_abandoned: OnAbandoned,
    on_store_error: OnStoreError,
}

/// What an effect came to: the value for its caller, and what is to be recorded.
#[derive(Debug)]
pub(crate) struct Settled<T> {
    pub(crate) value: T,
    pub(crate) recording: Recording,
}

/// What is to be recorded of an effect that returned.
#[derive(Debug, Clone)]
pub(crate) enum Recording {
    /// It ran, and retries get this.
    Answer(Answer),
    /// It ran; its answer is not kept.
    Tombstone,
    /// It did not happen: a retry runs.
    Release,
    /// It failed: a retry runs, as the next attempt.
    Failed,
    /// It is not to be run again before somebody resolves it.
    Parked {
        /// Why.
        note: Answer,
        /// Whether the effect ran at all.
        ran: bool,
    },
    /// Nobody can tell.
    Unknown,
    /// It broke off: as a vanished owner, so released or unknown by `on_abandoned`.
    Broken,
}

/// How a guarded operation was answered.
#[derive(Debug)]
pub(crate) enum Ran<T> {
    /// The effect ran, now.
    Fresh(T),
    /// The effect ran, now; when it was done somebody else had taken the operation over, whose answer is the one that is kept.
    Stale(T),
    /// It ran before; this was kept.
    Replay(Answer),
    /// It is parked; this says why.
    Parked(Answer),
}

/// How long at least a record in flight outlives its lease. Its owner may still be at it though the store's clock says otherwise, as where
/// a host slept with both: whoever finds the record has an owner to look for, and whoever finds none runs.
const SHORTEST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// When to come back to what this process runs under a lease that may have run out.
const UNSURE: Duration = Duration::from_secs(1);

/// What is said of an operation that this process runs itself.
const RUNS_HERE: Refusal = Refusal::InFlight { retry_after: UNSURE };

/// How often a claim is asked for whose answer comes too late.
const SLOW_CLAIMS: usize = 3;

/// Whether a claim that was won came with half of its lease left: later, somebody else may own the key.
fn is_in_time(claim: &Claim, asked: Instant, claimed: &Claimed) -> bool {
    !matches!(claimed, Claimed::Won { .. }) || asked.elapsed() <= claim.lease / 2
}

/// A claim that the store did not answer.
struct Unanswered {
    error: StoreError,
    /// It may have been won all the same.
    taken_perhaps: bool,
}

impl Terms {
    pub(crate) const fn of(policy: &Policy) -> Self {
        Self {
            scope: policy.scope_name(),
            ttl: policy.answer_kept(),
            remember: policy.remembered(),
            lease: policy.lease_time(),
            renew_for: policy.renewed_for(),
            on_conflict: policy.conflict(),
            on_abandoned: policy.abandoned(),
            on_store_error: policy.store_error(),
        }
    }

    /// The same terms for an operation that only writes down why it is not run: nothing of it is ever unknown, and without
    /// the store it has not happened.
    pub(crate) const fn of_parking(self) -> Self {
        Self {
            on_conflict: OnConflict::Reject,
            on_abandoned: OnAbandoned::Retry,
            on_store_error: OnStoreError::Reject,
            ..self
        }
    }

    /// Whether an operation that broke off is not to be run again.
    pub(crate) const fn refuses_abandoned(&self) -> bool {
        !matches!(self.on_abandoned, OnAbandoned::Retry)
    }
}

impl Operation {
    pub(crate) fn claim(&self) -> Claim {
        self.claim_by(Token::fresh())
    }

    fn claim_by(&self, token: Token) -> Claim {
        let claim = Claim::new(self.key, token, self.fingerprint, self.terms.lease);
        match self.terms.on_abandoned {
            OnAbandoned::Retry => claim.retention(Some(self.terms.remember.max(SHORTEST_RETENTION))),
            OnAbandoned::Refuse | OnAbandoned::Recover(_) => claim.abandoned(Abandoned::MarkUnknown),
        }
    }

    fn complete(&self, token: Token, outcome: Outcome) -> Complete {
        Complete::new(self.key, token, outcome, self.terms.ttl).remember(self.terms.remember)
    }
}

impl Engine {
    pub(crate) fn new(store: Arc<dyn Store>, max_in_flight: usize, recovery: Recovery, settings: Settings) -> Self {
        let counters = Counters::default();
        Self(Arc::new(Shared {
            leases: Leases::new(store.clone(), counters.clone()),
            aftermath: Aftermath::new(store.clone(), counters.clone()),
            tracker: Tracker::new(max_in_flight),
            waiters: Waiters::new(settings.max_waiting),
            gates: Gates::default(),
            counters,
            store,
            recovery,
            asked: Asked::default(),
            runtime: FirstRuntime::default(),
            settings,
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    /// For a handler that takes an `Attempt` and runs without a key: an operation of its own that nobody can repeat.
    pub(crate) fn fill_unclaimed(&self, slot: &Slot) {
        fill(slot, Won::alone(self, &unclaimed(), NO_FENCE, 1, Arc::new(AtomicBool::new(true))));
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let Shared { counters, tracker, aftermath, leases, .. } = &*self.0;
        Metrics {
            oldest_in_flight_ms: micros(leases.oldest()) / 1000,
            ..counters.snapshot(tracker.in_flight(), aftermath.waiting())
        }
    }

    /// Waits until nothing runs and nothing is left to be recorded, at most until `deadline` from now.
    pub(crate) async fn drain(&self, deadline: Duration) -> Drained {
        let idle = async {
            loop {
                self.0.tracker.idle().await;
                self.0.aftermath.resume();
                self.0.aftermath.empty().await;
                if self.0.tracker.in_flight() == 0 && self.0.aftermath.waiting() == 0 {
                    break;
                }
            }
        };
        let finished = tokio::time::timeout(deadline, idle).await.is_ok();
        let left = self.0.tracker.in_flight() + self.0.aftermath.waiting();
        Drained { finished: finished || left == 0, left }
    }

    /// Counts a replay, by whether the one it is for could read it.
    pub(crate) fn replayed(&self, key: &StorageKey, readable: bool) {
        if readable {
            self.0.counters.replayed.add();
        } else {
            self.0.counters.unknown.add();
            tracing::error!(%key, "the answer of an operation that ran cannot be read by this version");
        }
    }

    /// The value that an operation returned when it ran. That it ran holds also where its value is no `T` any more.
    pub(crate) fn replay_value<T: DeserializeOwned>(&self, key: &StorageKey, kept: &Answer) -> Result<T, Refusal> {
        let Ok(json) = kept.open(Kind::Value) else {
            self.replayed(key, false);
            return Err(Refusal::Unreadable);
        };
        match decode(&json) {
            Ok(value) => {
                self.replayed(key, true);
                Ok(value)
            }
            Err(_) => {
                self.0.counters.not_kept.add();
                let wanted = std::any::type_name::<T>();
                tracing::warn!(%key, wanted, "the operation ran, and the value that is kept of it is another type's");
                Err(Refusal::NotKept)
            }
        }
    }

    /// Runs `effect` if nobody did or does, else answers with what is known.
    pub(crate) fn run<T, F, Fut>(
        &self,
        operation: &Operation,
        effect: F,
    ) -> impl Future<Output = Result<Ran<T>, Refusal>> + Send
    where
        T: Send + 'static,
        F: FnOnce(Granted<'_>) -> Fut + Send + 'static,
        Fut: Future<Output = Settled<T>> + Send + 'static,
    {
        self.take_turns(operation, effect, |effect| self.turn(operation, effect))
    }

    /// One claim, and the effect if it was won. Once the claim is under way, dropping this future cuts nothing.
    fn turn<T, F, Fut>(
        &self,
        operation: &Operation,
        effect: F,
    ) -> Detached<'_, impl Future<Output = Turn<T, F>> + Send + use<T, F, Fut>>
    where
        T: Send + 'static,
        F: FnOnce(Granted<'_>) -> Fut + Send + 'static,
        Fut: Future<Output = Settled<T>> + Send + 'static,
    {
        let mut claiming = Claiming::new(self, operation, effect);
        let tracked = async move {
            let ran = claiming.claim_and_run().await;
            claiming.turn(ran)
        };
        Detached::new(tracked, self)
    }

    /// What this process knows of an operation better than the store.
    fn known_here<T>(&self, operation: &Operation, now: Instant) -> Option<Result<Ran<T>, Refusal>> {
        self.0.aftermath.find(operation).or_else(|| {
            let runs = self.0.leases.is_unsure_of(&operation.key, now);
            runs.then_some(Err(RUNS_HERE))
        })
    }

    /// Whether the operation runs here under a lease that may have run out, or waits here to be recorded.
    fn has_at_hand(&self, operation: &Operation) -> bool {
        self.known_here::<()>(operation, Instant::now()).is_some()
    }

    /// Removes the record of an operation, unless this process knows of it what the store does not.
    pub(crate) async fn forget(&self, operation: &Operation) -> Result<Forgotten, StoreError> {
        if self.has_at_hand(operation) {
            return Ok(Forgotten::InFlight);
        }
        self.0.store.forget(operation.key).await
    }

    /// Settles an operation on an operator's word, unless this process knows of it what the store does not.
    pub(crate) async fn resolve(&self, operation: &Operation, verdict: Verdict) -> Result<Resolved, StoreError> {
        if self.has_at_hand(operation) {
            return Ok(Resolved::NotUnknown);
        }
        self.0.store.resolve(&Resolve::new(operation.key, verdict)).await
    }

    /// The owner in this process of what a claim has taken over or found unknown: what the store took for abandoned, as its clock
    /// leapt or its answer came late.
    fn owner_here(&self, key: &StorageKey, token: Token, claimed: &Claimed) -> Option<Token> {
        match claimed {
            Claimed::Won { attempt: 2.., .. } | Claimed::Unknown { .. } => self.0.leases.other_owner(key, token),
            _ => None,
        }
    }

    /// Asks for the claim, and asks again with the same token while the answer may only have been lost, or comes too late.
    async fn claim(&self, claim: &Claim, asked: Instant) -> Result<Claimed, Unanswered> {
        match self.0.store.claim(*claim).await {
            Ok(claimed) if is_in_time(claim, asked, &claimed) => Ok(claimed),
            // In a box, as all that is rare.
            answer => Box::pin(self.claim_again(claim, asked, answer, false)).await,
        }
    }

    /// As [`claim`](Self::claim), where the store was asked before: what it granted then must not be forgotten if it gives no
    /// answer now.
    async fn claim_once_more(&self, claim: &Claim, asked: Instant, taken_perhaps: bool) -> Result<Claimed, Unanswered> {
        let answer = self.0.store.claim(*claim).await;
        self.claim_again(claim, asked, answer, taken_perhaps).await
    }

    async fn claim_again(
        &self,
        claim: &Claim,
        mut asked: Instant,
        mut answer: Result<Claimed, StoreError>,
        mut taken_perhaps: bool,
    ) -> Result<Claimed, Unanswered> {
        let mut asks = 1;
        let ask = || self.0.store.claim(*claim);
        loop {
            if let Err(error) = answer {
                answer = until_answered(ask, error, &mut taken_perhaps).await;
            }
            match answer {
                Ok(claimed) if is_in_time(claim, asked, &claimed) => return Ok(claimed),
                Ok(_) => taken_perhaps = true,
                Err(error) => return Err(Unanswered { error, taken_perhaps }),
            }
            if asks == SLOW_CLAIMS {
                let error = StoreError::new(
                    StoreErrorKind::Unavailable,
                    "claims are answered later than half their `lease`: write a longer one, or look why the store is slow",
                );
                return Err(Unanswered { error, taken_perhaps });
            }
            asks += 1;
            asked = Instant::now();
            answer = ask().await;
        }
    }

    /// Counts an effect, and says what is to be recorded of it.
    fn count<T>(&self, ended: Result<Settled<T>, Panicked>) -> (Result<Ran<T>, Refusal>, Recording) {
        if !matches!(&ended, Ok(Settled { recording: Recording::Parked { ran: false, .. }, .. })) {
            self.0.counters.executed.add();
        }
        match ended {
            Ok(Settled { value, recording }) => (Ok(Ran::Fresh(value)), recording),
            Err(Panicked) => {
                self.0.counters.panics.add();
                (Err(Refusal::Panicked), Recording::Broken)
            }
        }
    }

    /// The lease of a claim that was asked for at `since`, renewed from now on.
    fn hold(&self, claim: &Claim, terms: &Terms, since: Instant) -> HeldLease {
        self.0.leases.hold(Renew::of(claim), since, terms.renew_for)
    }

    fn was_stale(&self, key: &StorageKey) {
        self.0.counters.stale_owners.add();
        tracing::warn!(%key, "the operation ran past its lease and lost its claim");
    }

    fn keep_offering(&self, claim: Claim, complete: Complete, lease: HeldLease, error: &StoreError) {
        self.0.counters.store_errors.add();
        tracing::warn!(key = %claim.key, %error, "completion failed, it will be offered again");
        self.0.aftermath.complete(claim, complete, Some(lease));
    }

    async fn release(&self, release: &Release) -> bool {
        let mut taken_perhaps = false;
        match ask_again(|| self.0.store.release(*release), &mut taken_perhaps).await {
            Ok(Ownership::Held) => return true,
            // A release that was taken unseen finds nothing when it is asked again.
            Ok(Ownership::Lost) if taken_perhaps => return true,
            Ok(Ownership::Lost) => self.was_stale(&release.key),
            Err(error) => {
                self.0.counters.store_errors.add();
                tracing::warn!(key = %release.key, %error, "release failed, it will be offered again");
                self.0.aftermath.withdraw(*release);
            }
        }
        false
    }
}
