//! The store fails while a key is claimed.

use std::{collections::HashSet, time::Duration};

use axum::{Router, routing::post as route};
use idem_runtime::{ExecuteError, IdempotencyLayer, Policy, Refusal, store::StoreErrorKind};
use tests::{
    exchange::{post, send},
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};
use tokio::time::Instant;

use crate::support::*;

/// What a store in trouble may cost a request, beyond the store's own time-out.
const BUDGET: Duration = Duration::from_millis(300);

#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_is_lost_is_asked_again_and_won() {
    for policy in BOTH {
        for lost in 1..=4 {
            let (store, idempotency) = faulty();
            let runs = Runs::default();
            for _ in 0..lost {
                store.fail_next(Step::Claim, Fault::ReplyLost);
            }
            assert_fresh(
                &pay_with(&idempotency, policy, &runs, async |attempt| Ok(attempt.number().to_string())).await,
            );
            assert_eq!((store.calls(Step::Claim), runs.begun()), (lost + 1, 1));
            assert_replay_of(&pay(&idempotency, policy, &runs).await, "1");
            assert_eq!(runs.begun(), 1);
            assert_eq!(idempotency.metrics().store_errors, 0, "nobody was refused");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_refused_in_time_and_given_back_later() {
    for policy in BOTH {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        store.fail(Step::Claim, Fault::ReplyLost);
        store.fail(Step::Release, Fault::Refused(StoreErrorKind::Unreachable));
        let began = Instant::now();
        assert_refused(&pay(&idempotency, policy, &runs).await, unavailable);
        assert!(began.elapsed() <= BUDGET, "{:?}", began.elapsed());
        assert_eq!(runs.begun(), 0);
        assert_eq!(idempotency.metrics().unavailable, 1);

        // The claim was taken, as only the store knows: until it is given back the key is busy.
        store.heal_step(Step::Claim);
        assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        assert!(!idempotency.drain(Duration::from_secs(1)).await.finished);
        assert_eq!(idempotency.metrics().unrecorded, 1);

        store.heal();
        settled(&idempotency).await;
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        assert_eq!(runs.begun(), 1);
    }
}

/// What needs an operator is told from what is over in a second.
#[tokio::test(start_paused = true)]
async fn a_refused_call_says_why_the_store_did_not_answer() {
    use StoreErrorKind::{Conflict, Full, Misconfigured, Unavailable, Unreachable};
    let mut told = HashSet::new();
    for cause in [Unavailable, Unreachable, Full, Conflict, Misconfigured] {
        let (store, idempotency) = faulty();
        store.fail(Step::Claim, Fault::Refused(cause));
        let refused = pay(&idempotency, RETRY, &Runs::default()).await.unwrap_err();
        let ExecuteError::Refused(Refusal::Unavailable { kind, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(*kind, cause);
        assert!(told.insert(refused.to_string()), "{refused}");
        assert_eq!(idempotency.metrics().unavailable, 1);
    }
}

/// Also when it looked abandoned to another process, and became unknown, before it could be given back.
#[tokio::test(start_paused = true)]
async fn a_claim_that_became_unknown_is_given_back() {
    let inner = memory();
    let (store, other) = (FaultyStore::new(inner.clone()), runtime(inner));
    let (idempotency, runs) = (runtime(store.clone()), Runs::default());
    store.fail(Step::Claim, Fault::ReplyLost);
    assert_refused(&pay(&idempotency, REFUSE, &runs).await, unavailable);
    // From now on nothing reaches the store.
    store.fail_all(&Fault::Refused(StoreErrorKind::Unreachable));
    tokio::time::advance(LEASE + Duration::from_secs(1)).await;
    assert_refused(&pay(&other, REFUSE, &runs).await, unknown);
    store.heal();
    settled(&idempotency).await;
    assert_fresh(&pay(&other, REFUSE, &runs).await);
    assert_eq!(runs.begun(), 1);
}

/// A handler that asks its provider from the second attempt on must not take one for the first.
#[tokio::test(start_paused = true)]
async fn a_claim_that_took_over_unseen_is_given_back_with_its_attempt() {
    let inner = memory();
    // A process that is as good as dead: it renews no more.
    let (dead, died) = (FaultyStore::new(inner.clone()), Runs::default());
    dead.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
    let dead = runtime(dead);
    let first = pay_with(&dead, RETRY, &died, async |_| std::future::pending().await);
    assert!(tokio::time::timeout(LEASE + Duration::from_secs(1), first).await.is_err());
    assert_eq!(died.begun(), 1);

    let store = FaultyStore::new(inner);
    let (idempotency, runs) = (runtime(store.clone()), Runs::default());
    store.fail(Step::Claim, Fault::ReplyLost);
    assert_refused(&pay(&idempotency, RETRY, &runs).await, unavailable);
    store.heal();
    settled(&idempotency).await;
    let next = pay_with(&idempotency, RETRY, &runs, async |attempt| Ok(attempt.number().to_string())).await;
    assert_eq!(next.unwrap().value, "3", "the second is the one whose claim was lost");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_times_out_costs_its_own_time_out_and_the_budget() {
    const TIME_OUT: Duration = Duration::from_millis(500);
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    store.fail(Step::Claim, Fault::TimedOut(TIME_OUT));
    let began = Instant::now();
    assert_refused(&pay(&idempotency, RETRY, &runs).await, unavailable);
    assert!((TIME_OUT..=TIME_OUT + BUDGET).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(runs.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_never_sent_leaves_nothing_behind() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    store.fail(Step::Claim, Fault::Refused(StoreErrorKind::Unreachable));
    let began = Instant::now();
    assert_refused(&pay(&idempotency, RETRY, &runs).await, unavailable);
    assert!(began.elapsed() <= BUDGET, "{:?}", began.elapsed());
    assert!(store.calls(Step::Claim) > 1, "a connection may be back at once");
    assert_eq!(idempotency.metrics().unrecorded, 0);
    assert_eq!((runs.begun(), store.calls(Step::Release)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_will_not_change_its_mind_is_asked_once() {
    for kind in [StoreErrorKind::Full, StoreErrorKind::Misconfigured] {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        store.fail(Step::Claim, Fault::Refused(kind));
        let began = Instant::now();
        assert_refused(&pay(&idempotency, RETRY, &runs).await, unavailable);
        assert_eq!((began.elapsed(), store.calls(Step::Claim), runs.begun()), (Duration::ZERO, 1, 0));
    }
}

/// Over HTTP: a problem that says when to ask again.
#[tokio::test(start_paused = true)]
async fn the_client_is_told_to_ask_again() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    let counted = runs.clone();
    let handler = async move || {
        counted.begin();
        "paid"
    };
    let app = Router::new().route("/pay", route(handler)).layer(IdempotencyLayer::new(idempotency, RETRY));
    store.fail(Step::Claim, Fault::ReplyLost);
    let refused = send(&app, post("/pay", "k", "")).await;
    assert_eq!(refused.summary(), "503 store-unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.text().contains(r#""retryable":true"#), "{}", refused.text());
    assert_eq!(runs.begun(), 0);
}

/// The claim was won, but the reply took longer than the lease it granted, and somebody else owns the key by now.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_reply_comes_too_late_is_asked_again() {
    let shared = memory();
    let (store, other) = (FaultyStore::new(shared.clone()), runtime(shared));
    let idempotency = runtime(store.clone());
    let (runs, late) = (Runs::default(), Gate::new());
    store.fail_next(Step::Claim, Fault::HeldAfter(late.clone()));
    let slow = {
        let (idempotency, runs) = (idempotency.clone(), runs.clone());
        tokio::spawn(async move { pay(&idempotency, RETRY, &runs).await })
    };
    late.reached().await;
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_fresh(&pay(&other, RETRY, &runs).await);
    late.open();
    assert_replay(&slow.await.unwrap());
    assert_eq!(runs.begun(), 1);
}

/// Every reply comes so late that the lease is half over: nobody runs on that.
#[tokio::test(start_paused = true)]
async fn a_store_slower_than_the_lease_is_as_good_as_none() {
    const BRIEF: Policy = Policy::new("brief").lease(Duration::from_millis(100)).validate();
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    store.fail(Step::Claim, Fault::Slow(Duration::from_millis(80)));
    assert_refused(&pay(&idempotency, BRIEF, &runs).await, unavailable);
    store.heal();
    settled(&idempotency).await;
    store.fail(Step::Claim, Fault::Slow(Duration::from_millis(40)));
    assert_fresh(&pay(&idempotency, BRIEF, &runs).await);
    assert_eq!(runs.begun(), 1);
}

/// A store of somebody else's that panics takes its request with it, and nothing more.
#[tokio::test(start_paused = true)]
async fn a_store_that_panics_ends_one_request() {
    for step in [Step::Claim, Step::Complete, Step::Release] {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        store.yielding(1);
        store.fail_next(step, Fault::Panics);
        let request = {
            let (idempotency, runs) = (idempotency.clone(), runs.clone());
            let effect =
                async move |_| if step == Step::Release { Err("declined".to_owned()) } else { Ok("paid".to_owned()) };
            tokio::spawn(async move { pay_with(&idempotency, RETRY, &runs, effect).await })
        };
        assert!(request.await.unwrap_err().is_panic());
        let metrics = idempotency.metrics();
        assert_eq!((metrics.in_flight, metrics.detached), (0, 0), "{step:?}: there is nothing left to go on with");
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        assert_fresh(&pay(&idempotency, RETRY, &runs).await);
    }
}
