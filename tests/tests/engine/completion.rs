//! The effect has happened, and the store does not take it.

use std::time::Duration;

use idem_runtime::{ExecuteError, Idempotency, Policy, store::StoreErrorKind};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};
use tokio::time::Instant;

use crate::support::*;

/// What a store in trouble may cost an answer.
const BUDGET: Duration = Duration::from_millis(300);

/// A store that this process reaches through its faults, and another process without.
fn two_replicas() -> (FaultyStore, Idempotency, Idempotency) {
    let shared = memory();
    let store = FaultyStore::new(shared.clone());
    (store.clone(), runtime(store), runtime(shared))
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_reply_is_lost_is_asked_again() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        store.fail_next(Step::Complete, Fault::ReplyLost);
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        assert_eq!((store.calls(Step::Complete), idempotency.metrics().unrecorded), (2, 0));
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_true_answer_is_given_and_the_completion_offered_until_it_is_taken() {
    let faults = [
        Fault::Refused(StoreErrorKind::Unreachable),
        Fault::Refused(StoreErrorKind::Unavailable),
        Fault::Refused(StoreErrorKind::Misconfigured),
        Fault::ReplyLost,
    ];
    for policy in BOTH {
        for fault in &faults {
            let (store, idempotency, other) = two_replicas();
            let runs = Runs::default();
            store.fail(Step::Complete, fault.clone());
            let began = Instant::now();
            assert_fresh(&pay(&idempotency, policy, &runs).await);
            assert!(began.elapsed() <= BUDGET, "{:?}", began.elapsed());
            assert_eq!(idempotency.metrics().unrecorded, 1);

            // This process knows the answer, the store cannot say yet.
            let claims = store.calls(Step::Claim);
            assert_replay(&pay(&idempotency, policy, &runs).await);
            assert_eq!(store.calls(Step::Claim), claims, "nobody needs to be asked");
            if !matches!(fault, Fault::ReplyLost) {
                assert_refused(&pay(&other, policy, &runs).await, in_flight);
            }

            // Offered again, more than once.
            store.called(Step::Complete, store.calls(Step::Complete) + 3).await;
            store.heal();
            settled(&idempotency).await;
            assert_replay(&pay(&other, policy, &runs).await);
            assert_replay(&pay(&idempotency, policy, &runs).await);
            assert_eq!((runs.begun(), runs.ended()), (1, 1));
            assert_eq!(idempotency.metrics().stale_owners, 0, "{fault:?}");
            assert_eq!(idempotency.metrics().dropped_outcomes, 0);
        }
    }
}

/// The store comes back without its memory: the record is there again, before anybody could run.
#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_blank_is_told() {
    for policy in BOTH {
        let store = FaultyStore::new(memory());
        let idempotency = runtime(store.clone());
        let runs = Runs::default();
        store.fail_next(Step::Claim, Fault::ReplyLost);
        store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        let blank = memory();
        store.replace(blank.clone());
        assert_replay(&pay(&idempotency, policy, &runs).await);
        store.heal();
        settled(&idempotency).await;
        assert_replay(&pay(&runtime(blank), policy, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }
}

/// Restarted between the claim and the completion, so quickly that no step failed.
#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_the_claim_is_told() {
    for policy in BOTH {
        let store = FaultyStore::new(memory());
        let idempotency = runtime(store.clone());
        let runs = Runs::default();
        let blank = memory();
        let swap = {
            let (store, blank) = (store.clone(), blank.clone());
            async move |_| {
                store.replace(blank);
                Ok("paid".to_owned())
            }
        };
        assert_fresh(&pay_with(&idempotency, policy, &runs, swap).await);
        settled(&idempotency).await;
        assert_replay(&pay(&runtime(blank), policy, &runs).await);
        assert_eq!(runs.begun(), 1);
        assert_eq!(idempotency.metrics().stale_owners, 0, "nobody took over");
    }
}

/// While one process cannot complete, its lease runs out, and another process asks.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_comes_after_the_lease_settles_the_unknown() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    store.fail_all(&Fault::Refused(StoreErrorKind::Unreachable));
    store.heal_step(Step::Claim);
    assert_fresh(&pay(&idempotency, REFUSE, &runs).await);
    tokio::time::sleep(LEASE * 2).await;
    assert_refused(&pay(&other, REFUSE, &runs).await, unknown);
    assert_replay(&pay(&idempotency, REFUSE, &runs).await);
    store.heal();
    settled(&idempotency).await;
    assert_replay(&pay(&other, REFUSE, &runs).await);
    assert_eq!(runs.begun(), 1);
}

/// Under `retry`, in the process that knows, nothing runs again however long the store is away.
#[tokio::test(start_paused = true)]
async fn a_long_outage_makes_nothing_run_again() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        store.fail_all(&Fault::Refused(StoreErrorKind::Unreachable));
        for _ in 0..10 {
            tokio::time::sleep(LEASE).await;
            assert_replay(&pay(&idempotency, policy, &runs).await);
        }
        store.heal();
        settled(&idempotency).await;
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }
}

/// The effect is a fact even where there is no room for its answer.
#[tokio::test(start_paused = true)]
async fn a_store_without_room_keeps_that_it_ran() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        store.fail(Step::Complete, Fault::AnswerRefused(StoreErrorKind::Full));
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        assert_refused(&pay(&idempotency, policy, &runs).await, not_kept);
        settled(&idempotency).await;
        for replica in [&idempotency, &other] {
            assert_refused(&pay(replica, policy, &runs).await, not_kept);
        }
        assert_eq!(runs.begun(), 1);
    }
}

/// As above, when it is only seen while the completion is offered again.
#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_without_room_keeps_that_it_ran() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        store.fail(Step::Complete, Fault::AnswerRefused(StoreErrorKind::Full));
        settled(&idempotency).await;
        assert_refused(&pay(&other, policy, &runs).await, not_kept);
        assert_eq!(runs.begun(), 1);
    }
}

/// An outcome that is refused does not hold up those behind it.
#[tokio::test(start_paused = true)]
async fn outcomes_do_not_wait_for_each_other() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    // Twelve completions of twelve scopes wait; then every other offer fails.
    const SCOPES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    for scope in SCOPES {
        assert_fresh(&pay(&idempotency, Policy::new(scope), &runs).await);
    }
    assert_eq!(idempotency.metrics().unrecorded, SCOPES.len() as u64);
    store.heal();
    for _ in SCOPES {
        store.fail_next(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
        store.pass_next(Step::Complete);
    }
    settled(&idempotency).await;
    for scope in SCOPES {
        assert_replay(&pay(&idempotency, Policy::new(scope), &runs).await);
    }
    assert_eq!(runs.begun(), SCOPES.len());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_made_up_for() {
    for policy in BOTH {
        for fault in [Fault::Refused(StoreErrorKind::Unreachable), Fault::ReplyLost] {
            let (store, idempotency) = faulty();
            let runs = Runs::default();
            store.fail(Step::Release, fault);
            let failed = pay_with(&idempotency, policy, &runs, async |_| Err("declined".to_owned())).await;
            assert!(matches!(&failed, Err(ExecuteError::Effect(error)) if error == "declined"), "{failed:?}");
            assert_eq!(idempotency.metrics().unrecorded, 1);
            store.heal();
            settled(&idempotency).await;
            assert_fresh(&pay(&idempotency, policy, &runs).await);
            assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (2, 0));
        }
    }
}

/// A release that comes late, after its lost reply, does not free what somebody else owns by then.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_repeated_late_frees_nobody_elses_claim() {
    let (store, idempotency, other) = two_replicas();
    let (runs, gate) = (Runs::default(), Gate::new());
    store.fail(Step::Release, Fault::ReplyLost);
    let failed = pay_with(&idempotency, RETRY, &runs, async |_| Err("declined".to_owned())).await;
    assert!(failed.is_err());
    store.fail(Step::Release, Fault::Refused(StoreErrorKind::Unreachable));
    let second = {
        let (runs, gate, other) = (runs.clone(), gate.clone(), other.clone());
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        tokio::spawn(async move { pay_with(&other, RETRY, &runs, effect).await })
    };
    gate.reached().await;
    store.heal();
    settled(&idempotency).await;
    assert_refused(&pay(&idempotency, RETRY, &runs).await, in_flight);
    gate.open();
    assert_fresh(&second.await.unwrap());
    assert_replay(&pay(&idempotency, RETRY, &runs).await);
    assert_eq!(runs.begun(), 2);
}

/// Completions fail while renewals get through, as where a server has no memory for answers: the operation does not look
/// abandoned to others, however long it takes.
#[tokio::test(start_paused = true)]
async fn an_operation_that_waits_to_be_recorded_is_not_abandoned() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Full));
        assert_fresh(&pay(&idempotency, policy, &runs).await);
        for _ in 0..10 {
            tokio::time::sleep(LEASE / 2).await;
            assert_refused(&pay(&other, policy, &runs).await, in_flight);
        }
        store.heal();
        settled(&idempotency).await;
        assert_refused(&pay(&other, policy, &runs).await, not_kept);
        assert_eq!(runs.begun(), 1);
        let renewals = store.calls(Step::Renew);
        tokio::time::sleep(LEASE * 2).await;
        assert_eq!(store.calls(Step::Renew), renewals, "recorded: nothing is renewed any more");
    }
}
