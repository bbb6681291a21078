//! `renew_for`: how long a handler that hangs keeps its key.

use std::time::Duration;

use idem_runtime::{Idempotency, MemoryStore, OnConflict, Policy, consumer::Event, store::StoreErrorKind};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};

use crate::{lease::two_replicas, standing::Standing, support::*};

const RENEWED: Duration = Duration::from_secs(60);
const RETRY_AFTER_IT: Policy = RETRY.renew_for(RENEWED).validate();
const REFUSE_AFTER_IT: Policy = REFUSE.renew_for(RENEWED).validate();

/// In this process and in another one.
async fn is_in_flight_until_its_lease_is_out(
    idempotency: &Idempotency,
    other: &Idempotency,
    policy: Policy,
    runs: &Runs,
) {
    for _ in 0..12 {
        tokio::time::sleep(RENEWED / 12).await;
        for replica in [idempotency, other] {
            assert_refused(&pay(replica, policy, runs).await, in_flight);
        }
    }
    tokio::time::sleep(LEASE).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_let_go_and_runs_again_beside_itself() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("late")).await;
    is_in_flight_until_its_lease_is_out(&idempotency, &other, RETRY_AFTER_IT, &runs).await;
    assert_eq!(idempotency.metrics().leases_let_go, 1);
    let renewals = store.calls(Step::Renew);
    assert!((5..=6).contains(&renewals), "as often as before, and no longer: {renewals} in two leases");

    // In the same process, which would else answer for what it runs.
    let second = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("paid")).await;
    assert_eq!((second.attempt().number(), runs.begun()), (2, 2));
    assert!(second.attempt().fence() > hangs.attempt().fence());
    assert!(!hangs.attempt().still_owner().await.unwrap());
    assert_fresh(&second.finish().await);

    // It comes too late: its own caller is told what it did, and nobody else.
    assert_eq!(hangs.finish().await.unwrap().value, "late");
    for replica in [&idempotency, &other] {
        assert_replay(&pay(replica, RETRY_AFTER_IT, &runs).await);
    }
    assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_that_hangs_does_is_unknown_where_it_is_not_to_run_again() {
    let (_store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, REFUSE_AFTER_IT, &runs, Ok("paid")).await;
    is_in_flight_until_its_lease_is_out(&idempotency, &other, REFUSE_AFTER_IT, &runs).await;
    for replica in [&idempotency, &other] {
        assert_refused(&pay(replica, REFUSE_AFTER_IT, &runs).await, unknown);
    }
    // It is the owner still.
    hangs.finish_as_the_only_one(&other, REFUSE_AFTER_IT, &runs).await;
    assert_eq!(idempotency.metrics().stale_owners, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_let_go_is_recorded_if_nobody_came() {
    for policy in [RETRY_AFTER_IT, REFUSE_AFTER_IT] {
        let (_store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        let hangs = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        tokio::time::sleep(RENEWED * 10).await;
        assert_eq!(idempotency.metrics().leases_let_go, 1, "once");
        assert_fresh(&hangs.finish().await);
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_was_let_go_keeps_its_place_and_is_waited_for() {
    let store = MemoryStore::new();
    let idempotency = Idempotency::builder(store).shared().max_in_flight(1).build();
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("paid")).await;
    tokio::time::sleep(RENEWED * 2).await;
    assert_eq!((idempotency.metrics().leases_let_go, idempotency.metrics().in_flight), (1, 1));
    let refused = pay(&idempotency, Policy::new("other"), &runs).await;
    assert_refused(&refused, |refusal| *refusal == idem_runtime::Refusal::Overloaded);
    assert_eq!(idempotency.drain(Duration::from_secs(1)).await.left, 1);
    assert_fresh(&hangs.finish().await);
}

/// The store was away in the end, so that this process was not sure whether it owned what it ran.
#[tokio::test(start_paused = true)]
async fn a_process_answers_no_longer_for_what_it_has_let_go() {
    let store = FaultyStore::new(memory());
    let idempotency = runtime(store.clone());
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("late")).await;
    store.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_refused(&pay(&idempotency, RETRY_AFTER_IT, &runs).await, in_flight);
    tokio::time::sleep(RENEWED - LEASE).await;
    assert_fresh(&pay(&idempotency, RETRY_AFTER_IT, &runs).await);
    assert_eq!(hangs.finish().await.unwrap().value, "late");
}

#[tokio::test(start_paused = true)]
async fn a_process_answers_no_longer_for_what_it_has_lost_and_let_go() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("late")).await;
    let gate = Gate::new();
    store.fail(Step::Renew, Fault::HeldBefore(gate.clone()));
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let declined = async |_| Err("declined".to_owned());
    assert!(pay_with(&other, RETRY_AFTER_IT, &runs, declined).await.is_err());
    gate.open();
    store.heal();
    // One round of renewals tells that it is lost.
    tokio::time::sleep(LEASE / 3).await;
    assert_refused(&pay(&idempotency, RETRY_AFTER_IT, &runs).await, in_flight);
    tokio::time::sleep(RENEWED - LEASE).await;
    assert_fresh(&pay(&idempotency, RETRY_AFTER_IT, &runs).await);
    assert_eq!(hangs.finish().await.unwrap().value, "late");
}

/// A renewal that was on the way when it was let go does not take it back.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_late_does_not_begin_again() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    let hangs = Standing::start(&idempotency, RETRY_AFTER_IT, &runs, Ok("late")).await;
    tokio::time::sleep(RENEWED - LEASE / 2).await;
    let gate = Gate::new();
    store.fail(Step::Renew, Fault::HeldAfter(gate.clone()));
    gate.reached().await;
    tokio::time::sleep(LEASE / 2).await;
    store.heal();
    gate.open();
    let renewals = store.calls(Step::Renew);
    tokio::time::sleep(LEASE).await;
    assert_eq!(store.calls(Step::Renew), renewals);
    assert_fresh(&pay(&idempotency, RETRY_AFTER_IT, &runs).await);
    assert_fresh(&hangs.finish().await);
}

/// An operator sees a handler hang, without `renew_for` as well.
#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_operation_in_flight_is_told() {
    let (store, idempotency) = faulty();
    let runs = Runs::default();
    let age = || idempotency.metrics().oldest_in_flight_ms;
    assert_eq!(age(), 0);
    let first = Standing::start(&idempotency, RETRY, &runs, Ok("paid")).await;
    tokio::time::sleep(LEASE * 3).await;
    let second = Standing::start(&idempotency, REFUSE, &runs, Ok("paid")).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(age(), 120_000);
    assert_fresh(&first.finish().await);
    assert_eq!(age(), 30_000);
    // What waits for the store does not run.
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    assert_fresh(&second.finish().await);
    assert_eq!((age(), idempotency.metrics().unrecorded), (0, 1));
}

/// What waits to be recorded hangs nowhere: it happened, and must not happen again.
#[tokio::test(start_paused = true)]
async fn what_ended_is_renewed_for_as_long_as_it_waits_for_the_store() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    store.fail(Step::Complete, Fault::Refused(StoreErrorKind::Unreachable));
    assert_fresh(&pay(&idempotency, RETRY_AFTER_IT, &runs).await);
    tokio::time::sleep(RENEWED * 3).await;
    assert_refused(&pay(&other, RETRY_AFTER_IT, &runs).await, in_flight);
    store.heal();
    settled(&idempotency).await;
    assert_replay(&pay(&other, RETRY_AFTER_IT, &runs).await);
    assert_eq!((runs.begun(), idempotency.metrics().leases_let_go), (1, 0));
}

/// What was claimed with others and has not begun does not hang.
#[tokio::test(start_paused = true)]
async fn an_event_that_waits_for_its_turn_in_a_batch_is_not_let_go() {
    let (store, idempotency) = faulty();
    let consumer = idempotency.consumer(Policy::new("ship").renew_for(LEASE).validate_for_events()).at_once(1);
    let gate = Gate::new();
    let batch = tokio::spawn({
        let gate = gate.clone();
        async move {
            let handler = move |event: Event, _| {
                let gate = gate.clone();
                async move {
                    if event.id() == Some("first") {
                        gate.pass().await;
                    }
                    Ok::<_, String>(())
                }
            };
            consumer.process_many(vec![Event::new("first", "{}"), Event::new("second", "{}")], handler).await
        }
    });
    gate.reached().await;
    tokio::time::sleep(LEASE * 10).await;
    assert_eq!(idempotency.metrics().leases_let_go, 1, "that of the one that runs");
    let claims = store.calls(Step::Claim);
    gate.open();
    let results = batch.await.unwrap();
    assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
    assert_eq!(store.calls(Step::Claim) - claims, 0, "the second still has the claim that it was given with the first");
}

/// The one who asks took over and hangs as well: the others do not wait for its end. Nobody here is woken by the first, which runs elsewhere.
#[tokio::test(start_paused = true)]
async fn those_who_wait_hear_of_it_though_the_one_of_them_who_took_over_hangs() {
    const WAITS: Policy = RETRY_AFTER_IT.on_conflict(OnConflict::Wait(Duration::from_secs(6000))).validate();
    let (_store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let first = Standing::start(&other, WAITS, &runs, Err("declined")).await;
    let gate = Gate::new();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let (idempotency, runs, gate) = (idempotency.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let counted = runs.clone();
                let effect = async move |_| {
                    if counted.begun() == 2 {
                        gate.pass().await;
                    }
                    Ok("paid".to_owned())
                };
                pay_with(&idempotency, WAITS, &runs, effect).await
            })
        })
        .collect();
    tokio::time::sleep(LEASE).await;
    assert!(first.finish().await.is_err());
    gate.reached().await;
    tokio::time::sleep(RENEWED + LEASE * 2).await;
    let done = waiters.iter().filter(|waiter| waiter.is_finished()).count();
    assert_eq!((done, runs.begun()), (2, 3), "one has taken over, and another one has its answer");
    gate.open();
    for waiter in waiters {
        assert!(waiter.await.unwrap().is_ok());
    }
}
