//! `on_store_error = run`: the service prefers an unguarded run to a refusal.

use std::time::Duration;

use idem_runtime::{ExecuteError, Idempotency, OnAbandoned, OnStoreError, Policy, Refusal, store::StoreErrorKind};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};
use tokio::task::JoinHandle;

use crate::support::*;

const RUN: Policy = Policy::new("run").on_store_error(OnStoreError::Run).validate();
const RUN_REFUSE: Policy = RUN.on_abandoned(OnAbandoned::Refuse).validate();

#[tokio::test(start_paused = true)]
async fn it_runs_and_is_recorded_once_the_store_is_back() {
    for policy in [RUN, RUN_REFUSE] {
        for fault in [Fault::Refused(StoreErrorKind::Unreachable), Fault::ReplyLost] {
            let shared = memory();
            let (store, other) = (FaultyStore::new(shared.clone()), runtime(shared));
            let idempotency = runtime(store.clone());
            let runs = Runs::default();
            store.fail_all(&fault);
            assert_fresh(&pay(&idempotency, policy, &runs).await);
            assert_eq!(idempotency.metrics().unguarded, 1);
            // The store is still down, but this process remembers.
            assert_replay(&pay(&idempotency, policy, &runs).await);
            store.heal();
            settled(&idempotency).await;
            assert_replay(&pay(&other, policy, &runs).await);
            assert_eq!((runs.begun(), runs.ended()), (1, 1));
        }
    }
}

/// The claim was taken though nobody said so. Giving it back while the effect runs would let another replica run beside it.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_taken_without_an_answer_protects_the_run() {
    for policy in [RUN, RUN_REFUSE] {
        let shared = memory();
        let (store, other) = (FaultyStore::new(shared.clone()), runtime(shared));
        let idempotency = runtime(store.clone());
        let (runs, gate) = (Runs::default(), Gate::new());
        store.fail(Step::Claim, Fault::ReplyLost);
        let running = {
            let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let effect = async move |_| {
                    gate.pass().await;
                    Ok("paid".to_owned())
                };
                pay_with(&idempotency, policy, &runs, effect).await
            })
        };
        gate.reached().await;
        store.heal();
        for _ in 0..5 {
            // Time for whatever waits for the store, and more than a lease in all.
            tokio::time::sleep(LEASE / 2).await;
            assert_refused(&pay(&other, policy, &runs).await, in_flight);
        }
        gate.open();
        assert_fresh(&running.await.unwrap());
        settled(&idempotency).await;
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!(runs.begun(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_fails_leaves_the_key_free() {
    for fault in [Fault::Refused(StoreErrorKind::Unreachable), Fault::ReplyLost] {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        store.fail(Step::Claim, fault);
        let failed = pay_with(&idempotency, RUN, &runs, async |_| Err("declined".to_owned())).await;
        assert!(matches!(&failed, Err(ExecuteError::Effect(error)) if error == "declined"), "{failed:?}");
        store.heal();
        settled(&idempotency).await;
        assert_fresh(&pay(&idempotency, RUN, &runs).await);
        assert_eq!(runs.begun(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_unknown_where_abandoned_runs_are_refused() {
    for fault in [Fault::Refused(StoreErrorKind::Unreachable), Fault::ReplyLost] {
        for (policy, refuses) in [(RUN, false), (RUN_REFUSE, true)] {
            let (store, idempotency) = faulty();
            let runs = Runs::default();
            store.fail(Step::Claim, fault.clone());
            let panicked = pay_with(&idempotency, policy, &runs, async |_| panic!("after the charge")).await;
            assert_refused(&panicked, |refusal| *refusal == Refusal::Panicked);
            store.heal();
            settled(&idempotency).await;
            let retry = pay(&idempotency, policy, &runs).await;
            if refuses {
                assert_refused(&retry, unknown);
                assert_eq!(runs.begun(), 1);
            } else {
                assert_fresh(&retry);
                assert_eq!(runs.begun(), 2);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_before_is_not_run_again_once_the_store_answers() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    assert_fresh(&pay(&idempotency, RUN, &runs).await);
    store.fail_next(Step::Claim, Fault::TimedOut(Duration::from_millis(200)));
    assert_replay(&pay(&idempotency, RUN, &runs).await);
    assert_eq!((runs.begun(), idempotency.metrics().unguarded), (1, 0));
}

/// A run in the background that stands at a gate.
fn stands(idempotency: &Idempotency, runs: &Runs, value: &'static str, gate: &Gate) -> JoinHandle<Result> {
    let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
    let effect = async move |_| {
        gate.pass().await;
        Ok(value.to_owned())
    };
    tokio::spawn(async move { pay_with(&idempotency, RUN, &runs, effect).await })
}

/// Two run at once, as neither was answered, and the store has the claim of one of them. Whichever it is, no third may run.
#[tokio::test(start_paused = true)]
async fn two_that_run_unguarded_at_once_are_recorded_whoevers_claim_was_taken() {
    for (first, second) in [(true, false), (false, true)] {
        let shared = memory();
        let (store, other) = (FaultyStore::new(shared.clone()), runtime(shared));
        let idempotency = runtime(store.clone());
        let runs = Runs::default();
        let start = |value, gate: &Gate| stands(&idempotency, &runs, value, gate);
        let fault = |taken| if taken { Fault::ReplyLost } else { Fault::Refused(StoreErrorKind::Unavailable) };
        let gates = [Gate::new(), Gate::new()];
        store.fail_all(&fault(first));
        let one = start("first", &gates[0]);
        gates[0].reached().await;
        store.fail_all(&fault(second));
        let another = start("second", &gates[1]);
        gates[1].reached().await;
        // Nothing is recorded before both are over.
        store.fail_all(&Fault::Refused(StoreErrorKind::Unreachable));
        gates[0].open();
        assert_fresh(&one.await.unwrap());
        gates[1].open();
        assert_fresh(&another.await.unwrap());
        store.heal();
        settled(&idempotency).await;
        assert_replay_of(&pay(&other, RUN, &runs).await, "first");
        assert_eq!(runs.begun(), 2);
    }
}

/// The first one is offered while the second, whose claim the store has, is still at it, and the second ends before the store has said
/// that somebody else owns the operation. It must not be thrown away with the first.
#[tokio::test(start_paused = true)]
async fn one_that_ends_while_the_one_beside_it_is_offered_is_recorded() {
    let shared = memory();
    let (store, other) = (FaultyStore::new(shared.clone()), runtime(shared));
    let idempotency = runtime(store.clone());
    let runs = Runs::default();
    let start = |value, gate: &Gate| stands(&idempotency, &runs, value, gate);
    let gates = [Gate::new(), Gate::new()];
    store.fail(Step::Claim, Fault::Refused(StoreErrorKind::Unavailable));
    let one = start("first", &gates[0]);
    gates[0].reached().await;
    store.fail(Step::Claim, Fault::ReplyLost);
    let another = start("second", &gates[1]);
    gates[1].reached().await;
    let offered = Gate::new();
    store.fail(Step::Claim, Fault::HeldAfter(offered.clone()));
    gates[0].open();
    assert_fresh(&one.await.unwrap());
    offered.reached().await;
    gates[1].open();
    assert_fresh(&another.await.unwrap());
    store.heal();
    offered.open();
    settled(&idempotency).await;
    assert_replay_of(&pay(&other, RUN, &runs).await, "first");
    assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (2, 0));
}
