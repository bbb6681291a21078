//! Policies, runtimes and effects that the tests share.

use std::{fmt::Debug, future::Future, time::Duration};

use idem_runtime::{
    Attempt, ExecuteError, Executed, Idempotency, KeySource, MemoryStore, Operation, Policy, Principal, Refusal,
};
use tests::{
    faulty_store::FaultyStore,
    probe::{Runs, RuntimeClock},
};

/// An abandoned operation is run again.
pub(crate) const RETRY: Policy = Policy::new("retry").key(&[KeySource::DEFAULT]).validate();
/// An abandoned operation stays unknown.
pub(crate) const REFUSE: Policy = Policy::new("refuse").key(&[KeySource::DEFAULT]).financial().validate();

/// Both, for what must hold under both.
pub(crate) const BOTH: [Policy; 2] = [RETRY, REFUSE];

pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) type Result = std::result::Result<Executed<String>, ExecuteError<String>>;

/// A memory store whose leases go with the runtime's time.
pub(crate) fn memory() -> MemoryStore {
    MemoryStore::with_clock(RuntimeClock::new())
}

/// A store that can fail, and a runtime on it.
pub(crate) fn faulty() -> (FaultyStore, Idempotency) {
    let store = FaultyStore::new(memory());
    (store.clone(), runtime(store))
}

pub(crate) fn runtime(store: impl idem_runtime::Store) -> Idempotency {
    Idempotency::builder(store).shared().build()
}

pub(crate) fn operation(policy: Policy) -> Operation {
    Operation::new(policy, Principal::SHARED, "key-1").any_input()
}

/// Pays, at once.
pub(crate) async fn pay(idempotency: &Idempotency, policy: Policy, runs: &Runs) -> Result {
    pay_with(idempotency, policy, runs, async |_| Ok("paid".to_owned())).await
}

/// Pays as it is told.
pub(crate) async fn pay_with<E, F>(idempotency: &Idempotency, policy: Policy, runs: &Runs, effect: E) -> Result
where
    E: FnOnce(Attempt) -> F + Send + 'static,
    F: Future<Output = std::result::Result<String, String>> + Send + 'static,
{
    let runs = runs.clone();
    let effect = |attempt| async move {
        runs.begin();
        let result = effect(attempt).await;
        runs.end();
        result
    };
    idempotency.execute(operation(policy), effect).await
}

#[track_caller]
pub(crate) fn assert_fresh(result: &Result) {
    assert!(matches!(result, Ok(Executed { replayed: false, .. })), "{result:?}");
}

#[track_caller]
pub(crate) fn assert_replay(result: &Result) {
    assert_replay_of(result, "paid");
}

#[track_caller]
pub(crate) fn assert_replay_of(result: &Result, value: &str) {
    assert!(matches!(result, Ok(Executed { replayed: true, value: v, .. }) if v == value), "{result:?}");
}

#[track_caller]
pub(crate) fn assert_refused<T: Debug, E: Debug>(
    result: &std::result::Result<T, ExecuteError<E>>,
    expected: impl FnOnce(&Refusal) -> bool,
) {
    assert!(matches!(result, Err(ExecuteError::Refused(refusal)) if expected(refusal)), "{result:?}");
}

pub(crate) fn in_flight(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::InFlight { .. })
}

pub(crate) fn unavailable(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Unavailable { .. })
}

pub(crate) fn unknown(refusal: &Refusal) -> bool {
    *refusal == Refusal::Unknown
}

pub(crate) fn not_kept(refusal: &Refusal) -> bool {
    *refusal == Refusal::NotKept
}

/// Until nothing waits for the store any more.
pub(crate) async fn settled(idempotency: &Idempotency) {
    let drained = idempotency.drain(Duration::from_secs(60)).await;
    assert!(drained.finished, "{drained:?}");
    assert_eq!(drained.left, 0);
}
