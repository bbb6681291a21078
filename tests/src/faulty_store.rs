//! A store around another that fails when a test says so.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use idem_runtime::{
    Answer, StorageKey, Store,
    store::{
        Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release, Renew, Resolve,
        Resolved, StoreError, StoreErrorKind,
    },
};
use tokio::sync::watch;

use crate::gate::Gate;

/// A store whose steps fail as they are told. Clones are one store.
#[derive(Clone)]
pub struct FaultyStore(Arc<Shared>);

struct Shared {
    inner: Mutex<Arc<dyn Store>>,
    plans: Mutex<HashMap<Step, Plan>>,
    calls: watch::Sender<HashMap<Step, usize>>,
    yields: Mutex<usize>,
}

/// The steps of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// [`Store::claim`].
    Claim,
    /// [`Store::renew`].
    Renew,
    /// [`Store::complete`].
    Complete,
    /// [`Store::release`].
    Release,
    /// [`Store::resolve`].
    Resolve,
    /// [`Store::parked`].
    Parked,
    /// [`Store::forget`].
    Forget,
    /// [`Store::ping`].
    Ping,
}

/// Every step.
pub const EVERY_STEP: [Step; 8] =
    [Step::Claim, Step::Renew, Step::Complete, Step::Release, Step::Resolve, Step::Parked, Step::Forget, Step::Ping];

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is applied, and the answer is an error of this kind.
    Refused(StoreErrorKind),
    /// As `Refused`, but only where an answer is to be kept: what needs no room still fits.
    AnswerRefused(StoreErrorKind),
    /// It is applied, and the reply is lost: an error of kind `Unavailable`.
    ReplyLost,
    /// Nothing is applied, and after the store's own time-out the error is `Unavailable`.
    TimedOut(Duration),
    /// It is applied, and its reply takes this long.
    Slow(Duration),
    /// It panics.
    Panics,
    /// It stands still before it is applied.
    HeldBefore(Gate),
    /// It is applied, and its reply stands still.
    HeldAfter(Gate),
    /// It is applied, and the bytes of a replayed answer are changed on the way.
    Mangled(fn(&mut Vec<u8>)),
    /// Of a claim: nothing is applied, and under every key lies a record of a version that is not out yet.
    Unreadable,
    /// Of a list: a page of more bytes than this does not come within the store's time-out.
    TooHeavy(usize),
}

#[derive(Default)]
struct Plan {
    next: VecDeque<Option<Fault>>,
    then: Option<Fault>,
}

impl FaultyStore {
    /// A store that works until it is told otherwise.
    #[must_use]
    pub fn new(inner: impl Store) -> Self {
        Self::around(Arc::new(inner))
    }

    /// The same around one that is shared with others.
    #[must_use]
    pub fn around(inner: Arc<dyn Store>) -> Self {
        Self(Arc::new(Shared {
            inner: Mutex::new(inner),
            plans: Mutex::default(),
            calls: watch::Sender::default(),
            yields: Mutex::new(0),
        }))
    }

    /// From now on this step fails so.
    pub fn fail(&self, step: Step, fault: Fault) {
        self.plans().entry(step).or_default().then = Some(fault);
    }

    /// From now on every step fails so.
    pub fn fail_all(&self, fault: &Fault) {
        for step in EVERY_STEP {
            self.fail(step, fault.clone());
        }
    }

    /// The next call of this step that has no fault yet fails so.
    pub fn fail_next(&self, step: Step, fault: Fault) {
        self.plans().entry(step).or_default().next.push_back(Some(fault));
    }

    /// The next call of this step that has no fault yet works.
    pub fn pass_next(&self, step: Step) {
        self.plans().entry(step).or_default().next.push_back(None);
    }

    /// From now on every step works.
    pub fn heal(&self) {
        self.plans().clear();
    }

    /// From now on this step works.
    pub fn heal_step(&self, step: Step) {
        self.plans().remove(&step);
    }

    /// Every step gives way to others this often before and after it is applied, as one over a network does.
    pub fn yielding(&self, times: usize) {
        *lock(&self.0.yields) = times;
    }

    /// Another store takes its place, such as an empty one: the server was restarted.
    pub fn replace(&self, inner: impl Store) {
        *lock(&self.0.inner) = Arc::new(inner);
    }

    /// How often this step was called.
    #[must_use]
    pub fn calls(&self, step: Step) -> usize {
        self.0.calls.borrow().get(&step).copied().unwrap_or(0)
    }

    /// Until this step was called so often.
    ///
    /// # Panics
    ///
    /// If it is not: it takes a minute to be sure.
    pub async fn called(&self, step: Step, times: usize) {
        let mut calls = self.0.calls.subscribe();
        let enough = calls.wait_for(|calls| calls.get(&step).copied().unwrap_or(0) >= times);
        let enough = tokio::time::timeout(Duration::from_secs(60), enough).await;
        assert!(matches!(enough, Ok(Ok(_))), "{step:?} was called {} times, not {times}", self.calls(step));
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<Step, Plan>> {
        lock(&self.0.plans)
    }

    async fn step<T, A, F>(&self, step: Step, keeps_answer: bool, apply: A) -> Result<T, StoreError>
    where
        A: FnOnce(Arc<dyn Store>) -> F + Send,
        F: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        let fault = {
            let mut plans = self.plans();
            let plan = plans.entry(step).or_default();
            plan.next.pop_front().unwrap_or_else(|| plan.then.clone())
        };
        self.0.calls.send_modify(|calls| *calls.entry(step).or_default() += 1);
        let yields = *lock(&self.0.yields);
        give_way(yields).await;
        let inner = || lock(&self.0.inner).clone();
        let result = match fault {
            None | Some(Fault::Mangled(_) | Fault::Unreadable | Fault::TooHeavy(_)) => apply(inner()).await,
            Some(Fault::AnswerRefused(_)) if !keeps_answer => apply(inner()).await,
            Some(Fault::Refused(kind) | Fault::AnswerRefused(kind)) => Err(told(kind)),
            Some(Fault::ReplyLost) => apply(inner()).await.and(Err(told(StoreErrorKind::Unavailable))),
            Some(Fault::TimedOut(after)) => {
                tokio::time::sleep(after).await;
                Err(told(StoreErrorKind::Unavailable))
            }
            Some(Fault::Slow(after)) => {
                let result = apply(inner()).await;
                tokio::time::sleep(after).await;
                result
            }
            Some(Fault::Panics) => panic!("a test says so"),
            Some(Fault::HeldBefore(gate)) => {
                gate.pass().await;
                apply(inner()).await
            }
            Some(Fault::HeldAfter(gate)) => {
                let result = apply(inner()).await;
                gate.pass().await;
                result
            }
        };
        give_way(yields).await;
        result
    }

    fn mangles(&self) -> Option<fn(&mut Vec<u8>)> {
        match self.plans().get(&Step::Claim)?.then {
            Some(Fault::Mangled(mangle)) => Some(mangle),
            _ => None,
        }
    }

    fn hides_records(&self) -> bool {
        self.plans().get(&Step::Claim).is_some_and(|plan| matches!(plan.then, Some(Fault::Unreadable)))
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let hidden = self.hides_records();
        let apply = |store: Arc<dyn Store>| async move {
            if hidden { Ok(Claimed::Unreadable) } else { store.claim(claim).await }
        };
        let claimed = self.step(Step::Claim, false, apply).await?;
        Ok(match (claimed, self.mangles()) {
            (Claimed::Completed { answer: Some(answer) }, Some(mangle)) => {
                let mut bytes = answer.as_bytes().to_vec();
                mangle(&mut bytes);
                Claimed::Completed { answer: Some(Answer::from_bytes(Bytes::from(bytes))) }
            }
            (claimed, _) => claimed,
        })
    }

    /// A fault of [`Step::Claim`] is met by each claim of its own.
    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        // One step: what goes wrong with the round trip goes wrong with all of them.
        let (asked, hidden) = (claims.to_vec(), self.hides_records());
        let apply = |store: Arc<dyn Store>| async move {
            let hide = |_| Ok(Claimed::Unreadable);
            Ok(if hidden { asked.into_iter().map(hide).collect() } else { store.claim_many(&asked).await })
        };
        let claimed = self.step(Step::Claim, false, apply).await;
        claimed.unwrap_or_else(|error| {
            claims.iter().map(|_| Err(StoreError::new(error.kind(), "a fault of the test"))).collect()
        })
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.step(Step::Renew, false, |store| async move { store.renew(renew).await }).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        let keeps_answer = matches!(complete.outcome, Outcome::Answer(_) | Outcome::Parked(_));
        self.step(Step::Complete, keeps_answer, |store| async move { store.complete(complete).await }).await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.step(Step::Release, false, |store| async move { store.release(release).await }).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.step(Step::Resolve, true, |store| async move { store.resolve(resolve).await }).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        let records = self.step(Step::Parked, false, |store| async move { store.parked(parked).await }).await?;
        let bytes: usize = records.iter().map(|record| record.note.len()).sum();
        match self.plans().get(&Step::Parked).map(|plan| &plan.then) {
            Some(Some(Fault::TooHeavy(most))) if bytes > *most => Err(told(StoreErrorKind::Unavailable)),
            _ => Ok(records),
        }
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.step(Step::Forget, false, |store| async move { store.forget(key).await }).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.step(Step::Ping, false, |store| async move { store.ping().await }).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStore").field(&*lock(&self.0.inner)).finish()
    }
}

fn told(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, "a test says so")
}

async fn give_way(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
