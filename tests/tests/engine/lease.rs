//! Leases: renewed while the handler runs, lost by one that stood still.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use crate::{standing::Standing, support::*};
use idem_runtime::{
    Attempt, ExecuteError, FakeClock, Idempotency, MemoryStore, OnConflict, Policy, consumer::Event,
    store::StoreErrorKind,
};
use tests::{
    backend::Watched,
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::Runs,
};

pub(crate) fn two_replicas() -> (FaultyStore, Idempotency, Idempotency) {
    let shared = memory();
    let store = FaultyStore::new(shared.clone());
    (store.clone(), runtime(store), runtime(shared))
}

/// The store's clock leaps, so that the lease is over there and not here: what took it over claims it for its owner again.
#[tokio::test(start_paused = true)]
async fn what_runs_here_is_not_run_beside_itself_where_the_stores_clock_leaps() {
    for policy in BOTH {
        let clock = FakeClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let (idempotency, other) = (runtime(store.clone()), runtime(store));
        let runs = Runs::default();
        let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        for _ in 0..3 {
            clock.advance(LEASE * 2);
            for _ in 0..2 {
                assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
            }
            assert_refused(&pay(&other, policy, &runs).await, |refusal| in_flight(refusal) || unknown(refusal));
            // Renewed, and sure again.
            tokio::time::sleep(LEASE).await;
        }
        first.finish_as_the_only_one(&idempotency, policy, &runs).await;
    }
}

/// As where a host slept in the middle: longer than an answer is remembered, so that a store that forgot who runs would let another run.
/// A renewal that comes while the duplicate has the claim finds it lost; once the claim is given back it is to be renewed all the same.
#[tokio::test(start_paused = true)]
async fn what_is_claimed_for_its_owner_again_is_renewed_again() {
    for is_asked_before in [true, false] {
        let clock = FakeClock::new();
        let memory = MemoryStore::with_clock(clock.clone());
        let store = FaultyStore::new(memory.clone());
        let (idempotency, other) = (runtime(store.clone()), runtime(memory));
        let runs = Runs::default();
        let first = Standing::start(&idempotency, RETRY, &runs, Ok("paid")).await;
        clock.advance(LEASE * 2);
        let (release, renewal) = (Gate::new(), Gate::new());
        store.fail_next(Step::Release, Fault::HeldBefore(release.clone()));
        if is_asked_before {
            store.fail_next(Step::Renew, Fault::HeldAfter(renewal.clone()));
        }
        let duplicate = tokio::spawn({
            let (idempotency, runs) = (idempotency.clone(), runs.clone());
            async move { pay(&idempotency, RETRY, &runs).await }
        });
        release.reached().await;
        let renewals = store.calls(Step::Renew);
        store.called(Step::Renew, renewals + 1).await;
        if is_asked_before {
            renewal.reached().await;
        }
        release.open();
        assert_refused(&duplicate.await.unwrap(), in_flight);
        renewal.open();
        for _ in 0..20 {
            tokio::time::sleep(LEASE / 4).await;
            clock.advance(LEASE / 4);
            assert_refused(&pay(&other, RETRY, &runs).await, in_flight);
        }
        assert_fresh(&first.finish().await);
        assert_replay(&pay(&other, RETRY, &runs).await);
        assert_eq!(runs.begun(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_here_is_not_run_beside_itself_though_its_record_outlived_its_ttl() {
    const MINUTE: Duration = Duration::from_secs(60);
    let clock = FakeClock::new();
    let idempotency = runtime(MemoryStore::with_clock(clock.clone()));
    let policy = RETRY.ttl(MINUTE).validate();
    let runs = Runs::default();
    let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
    for asleep in [LEASE + MINUTE, 2 * MINUTE, 12 * 60 * MINUTE] {
        clock.advance(asleep);
        assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        // Renewed, and sure again.
        tokio::time::sleep(LEASE).await;
    }
    first.finish_as_the_only_one(&idempotency, policy, &runs).await;
}

/// Whoever claims an operation whose attempt has just failed has not taken it over.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_is_followed_by_the_next_while_its_release_is_on_the_way() {
    let (store, idempotency) = faulty();
    let consumer = idempotency.consumer(Policy::new("events").max_attempts(2).validate_for_events());
    let deliver = |succeeds: bool| {
        let consumer = consumer.clone();
        let handler = move |attempt: Attempt| async move { if succeeds { Ok(attempt.number()) } else { Err("no") } };
        async move { consumer.process(Event::new("e", "{}"), handler).await }
    };
    let gate = Gate::new();
    store.fail(Step::Release, Fault::HeldAfter(gate.clone()));
    let first = tokio::spawn(deliver(false));
    gate.reached().await;
    let second = deliver(true).await;
    assert!(matches!(&second, Ok(done) if done.value == 2), "{second:?}");
    gate.open();
    assert!(first.await.unwrap().is_err());
}

/// What the store would let another run, as its lease is out, is waited for here in a batch as well.
#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_what_runs_here_under_a_lease_that_is_out() {
    let (store, idempotency) = faulty();
    let wait = OnConflict::Wait(Duration::from_secs(60 * 60));
    let consumer = idempotency.consumer(Policy::new("events").on_conflict(wait).validate_for_events());
    let gate = Gate::new();
    let deliver = || {
        let (consumer, gate) = (consumer.clone(), gate.clone());
        let handler = move |_, _| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok::<_, String>("done".to_owned())
            }
        };
        tokio::spawn(async move { consumer.process_many(vec![Event::new("e", "{}")], handler).await })
    };
    let first = deliver();
    gate.reached().await;
    store.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
    tokio::time::sleep(LEASE * 2).await;
    let second = deliver();
    tokio::time::sleep(LEASE).await;
    gate.open();
    for (delivered, duplicate) in [(first, false), (second, true)] {
        let results = delivered.await.unwrap();
        assert!(matches!(&results[..], [Ok(done)] if done.duplicate == duplicate), "{results:?}");
    }
}

/// As if the whole process stood still: its renewals do not leave it.
fn stand_still(store: &FaultyStore) -> Gate {
    let gate = Gate::new();
    store.fail(Step::Renew, Fault::HeldBefore(gate.clone()));
    gate
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_lease_is_renewed_and_not_doubled() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        for _ in 0..40 {
            tokio::time::sleep(LEASE / 4).await;
            assert_refused(&pay(&other, policy, &runs).await, in_flight);
        }
        let renewals = store.calls(Step::Renew);
        assert!((29..=31).contains(&renewals), "at a third of the lease, and no oftener: {renewals} in ten leases");
        assert!(first.attempt().still_owner().await.unwrap());
        assert_fresh(&first.finish().await);
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!(runs.begun(), 1);

        // Done: nothing is renewed any more.
        let renewals = store.calls(Step::Renew);
        tokio::time::sleep(LEASE * 3).await;
        assert_eq!(store.calls(Step::Renew), renewals);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_its_ttl_is_not_doubled() {
    const SHORT: Policy = Policy::new("short").ttl(Duration::from_secs(2)).lease(Duration::from_secs(1)).validate();
    let (_store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let first = Standing::start(&idempotency, SHORT, &runs, Ok("paid")).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_refused(&pay(&other, SHORT, &runs).await, in_flight);
    }
    assert_fresh(&first.finish().await);
    // `ttl` counts from here.
    tokio::time::sleep(Duration::from_millis(1_990)).await;
    assert_replay(&pay(&other, SHORT, &runs).await);
    assert_eq!(runs.begun(), 1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_fresh(&pay(&other, SHORT, &runs).await);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_before_the_lease_is_out() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let first = Standing::start(&idempotency, RETRY, &runs, Ok("paid")).await;
    for _ in 0..4 {
        for fault in [Fault::Refused(StoreErrorKind::Unreachable), Fault::ReplyLost, Fault::TimedOut(LEASE / 10)] {
            store.fail_next(Step::Renew, fault);
        }
        store.pass_next(Step::Renew);
    }
    for _ in 0..20 {
        tokio::time::sleep(LEASE / 4).await;
        assert_refused(&pay(&other, RETRY, &runs).await, in_flight);
    }
    assert_fresh(&first.finish().await);
    assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
}

/// The store was away for longer than the lease, and whoever asks here is faster than the next renewal.
#[tokio::test(start_paused = true)]
async fn a_process_does_not_take_over_what_it_still_runs() {
    for policy in BOTH {
        for heals_before_the_end in [true, false] {
            let (store, idempotency) = faulty();
            let runs = Runs::default();
            let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
            store.fail(Step::Renew, Fault::Refused(StoreErrorKind::Unreachable));
            tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
            assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
            if heals_before_the_end {
                store.heal();
                tokio::time::sleep(LEASE / 3).await;
                assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
                assert_eq!(store.calls(Step::Claim), 2, "the lease is there again, so the store is asked");
            }
            first.finish_as_the_only_one(&idempotency, policy, &runs).await;
        }
    }
}

/// No renewal has failed: none has come back, as where the whole process stood still and a duplicate is the first to be looked at.
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_does_not_take_over_what_it_runs() {
    for policy in BOTH {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        let gate = stand_still(&store);
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        gate.open();
        store.heal();
        tokio::time::sleep(LEASE / 3).await;
        assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        first.finish_as_the_only_one(&idempotency, policy, &runs).await;
    }
}

/// Somebody else took it over and gave it back: to the store the key is free, and here the first run is still at it.
#[tokio::test(start_paused = true)]
async fn a_process_that_lost_its_claim_does_not_run_beside_itself() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let first = Standing::start(&idempotency, RETRY, &runs, Ok("paid")).await;
    let gate = stand_still(&store);
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    let declined = async |_| Err("declined".to_owned());
    assert!(matches!(pay_with(&other, RETRY, &runs, declined).await, Err(ExecuteError::Effect(_))));
    gate.open();
    store.heal();
    tokio::time::sleep(LEASE).await;
    assert_refused(&pay(&idempotency, RETRY, &runs).await, in_flight);
    assert_eq!(runs.begun(), 2);
    assert_fresh(&first.finish().await);
    assert_replay(&pay(&idempotency, RETRY, &runs).await);
}

/// Nor to give back a duplicate's claim that may have been won.
#[tokio::test(start_paused = true)]
async fn giving_back_a_claim_does_not_take_over_what_runs() {
    for policy in BOTH {
        let (store, idempotency) = faulty();
        let runs = Runs::default();
        let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        store.fail_all(&Fault::Refused(StoreErrorKind::Unavailable));
        assert_refused(&pay(&idempotency, policy, &runs).await, unavailable);
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        store.heal();
        // It is asked for twice a second, and the lease only after a twelfth of its time.
        for _ in 0..20 {
            tokio::time::sleep(LEASE / 40).await;
            assert_refused(&pay(&idempotency, policy, &runs).await, in_flight);
        }
        first.finish_as_the_only_one(&idempotency, policy, &runs).await;
    }
}

/// Many operations of many lease times at once: each is renewed in its own time, none after its end.
#[tokio::test(start_paused = true)]
async fn every_lease_is_renewed_in_its_own_time() {
    const SCOPES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let policies: Vec<Policy> = (1_u64..)
        .zip(SCOPES)
        .map(|(seconds, scope)| Policy::new(scope).lease(Duration::from_secs(seconds * seconds)).validate())
        .collect();
    let mut standing = Vec::new();
    // The longest lease first, so that each next one is due before those that wait.
    for policy in policies.iter().rev() {
        standing.push(Standing::start(&idempotency, *policy, &runs, Ok("paid")).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for policy in &policies {
            assert_refused(&pay(&other, *policy, &runs).await, in_flight);
        }
    }
    for run in standing {
        assert_fresh(&run.finish().await);
    }
    assert_eq!(runs.begun(), SCOPES.len());
    let renewals = store.calls(Step::Renew);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(store.calls(Step::Renew), renewals);
}

#[tokio::test(start_paused = true)]
async fn a_stale_owner_changes_nothing() {
    for (result, stale_answer) in [(Ok("stale"), Ok("stale")), (Err("declined"), Err("declined"))] {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        let gate = stand_still(&store);
        let first = Standing::start(&idempotency, RETRY, &runs, result).await;
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;

        let second = Standing::start(&other, RETRY, &runs, Ok("paid")).await;
        assert_eq!((first.attempt().number(), second.attempt().number()), (1, 2));
        assert!(second.attempt().fence() > first.attempt().fence());
        assert_fresh(&second.finish().await);

        // The first one wakes.
        gate.open();
        store.heal();
        let attempt = first.attempt();
        assert!(!attempt.still_owner().await.unwrap());
        match (first.finish().await, stale_answer) {
            // Its own client is told what its own run did.
            (Ok(executed), Ok(value)) => {
                assert!(executed.value == value && !executed.replayed);
                assert!(executed.lost_claim, "and that it is not what others are told");
            }
            (Err(ExecuteError::Effect(error)), Err(expected)) => assert_eq!(error, expected),
            (other, _) => panic!("{other:?}"),
        }
        settled(&idempotency).await;
        for replica in [&idempotency, &other] {
            let replay = pay(replica, RETRY, &runs).await;
            assert_replay(&replay);
            assert!(replay.is_ok_and(|executed| !executed.lost_claim));
        }
        assert_eq!(runs.begun(), 2);
        assert_eq!((idempotency.metrics().stale_owners, other.metrics().stale_owners), (1, 0), "{result:?}");
    }
}

/// The second owner is still at it when the first one wakes: nothing of the first one's gets between.
#[tokio::test(start_paused = true)]
async fn a_stale_owner_does_not_disturb_one_that_runs() {
    for result in [Ok("stale"), Err("declined")] {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        let gate = stand_still(&store);
        let first = Standing::start(&idempotency, RETRY, &runs, result).await;
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        let second = Standing::start(&other, RETRY, &runs, Ok("paid")).await;
        gate.open();
        store.heal();
        assert!(!first.attempt().still_owner().await.unwrap());
        assert_eq!(first.finish().await.is_ok(), result.is_ok());
        settled(&idempotency).await;
        assert_refused(&pay(&idempotency, RETRY, &runs).await, in_flight);
        assert!(second.attempt().still_owner().await.unwrap());
        assert_fresh(&second.finish().await);
        assert_replay(&pay(&idempotency, RETRY, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (2, 1));
    }
}

/// Under `refuse` nobody takes over, so the one that wakes settles what had become unknown.
#[tokio::test(start_paused = true)]
async fn an_owner_that_wakes_settles_the_unknown() {
    let (store, idempotency, other) = two_replicas();
    let runs = Runs::default();
    let gate = stand_still(&store);
    let first = Standing::start(&idempotency, REFUSE, &runs, Ok("paid")).await;
    assert_refused(&pay(&other, REFUSE, &runs).await, in_flight);
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_refused(&pay(&other, REFUSE, &runs).await, unknown);
    gate.open();
    store.heal();
    assert_fresh(&first.finish().await);
    assert_replay(&pay(&other, REFUSE, &runs).await);
    assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
}

/// A lease that ran out without anybody asking is still the owner's.
#[tokio::test(start_paused = true)]
async fn an_owner_that_wakes_before_anybody_asked_keeps_its_claim() {
    for policy in BOTH {
        let (store, idempotency, other) = two_replicas();
        let runs = Runs::default();
        let gate = stand_still(&store);
        let first = Standing::start(&idempotency, policy, &runs, Ok("paid")).await;
        tokio::time::sleep(LEASE * 3).await;
        gate.open();
        store.heal();
        assert!(first.attempt().still_owner().await.unwrap());
        assert_refused(&pay(&other, policy, &runs).await, in_flight);
        assert_fresh(&first.finish().await);
        assert_replay(&pay(&other, policy, &runs).await);
        assert_eq!((runs.begun(), idempotency.metrics().stale_owners), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_and_fences_grow_and_downstream_keys_stay() {
    let shared = memory();
    let runs = Runs::default();
    let mut seen: Vec<Attempt> = Vec::new();
    for number in 1..=5 {
        let store = FaultyStore::new(shared.clone());
        store.fail(Step::Renew, Fault::HeldBefore(Gate::new()));
        let standing = Standing::start(&runtime(store), RETRY, &runs, Ok("late")).await;
        let attempt = standing.attempt();
        assert_eq!(attempt.number(), number);
        if let Some(last) = seen.last() {
            assert!(attempt.fence() > last.fence());
            assert_eq!(attempt.downstream_key("charge"), last.downstream_key("charge"));
        }
        assert_ne!(attempt.downstream_key("charge"), attempt.downstream_key("refund"));
        seen.push(attempt);
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    }
    // A fence grows over a release, too.
    let other = Policy::new("other");
    let mut last = None;
    for _ in 0..5 {
        let fence = Arc::new(Mutex::new(None));
        let given = fence.clone();
        let effect = async move |attempt: Attempt| {
            *given.lock().unwrap() = Some(attempt.fence());
            Err("declined".to_owned())
        };
        assert!(pay_with(&runtime(shared.clone()), other, &runs, effect).await.is_err());
        let fence = fence.lock().unwrap().take();
        assert!(fence > last);
        last = fence;
    }
    let key = seen.first().map(|attempt| attempt.downstream_key("charge"));
    let elsewhere = Standing::start(&runtime(shared), other, &runs, Ok("paid")).await;
    assert_ne!(key, Some(elsewhere.attempt().downstream_key("charge")));
}

/// Not a matter of one more worker being free, if nobody but the blocked one can get at the task that renews: whether that begins now,
/// or sleeps for the sake of a longer lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_from_the_start_is_renewed() {
    for another_is_held in [false, true] {
        let store = Watched::new(Arc::new(memory()));
        let idempotency = runtime(store.clone());
        let longer = match another_is_held {
            true => Some(Standing::start(&idempotency, REFUSE, &Runs::default(), Ok("paid")).await),
            false => None,
        };
        let (told, renewed) = mpsc::channel();
        let watching = tokio::spawn(async move {
            store.until("a renewal", |steps| steps.renewals > 0).await;
            told.send(()).unwrap();
        });
        let blocking = async move |_| {
            renewed.recv_timeout(Duration::from_secs(5)).map_err(|_| "not renewed".to_owned())?;
            Ok("paid".to_owned())
        };
        let policy = RETRY.lease(Duration::from_millis(300));
        let paying = tokio::spawn({
            let idempotency = idempotency.clone();
            async move { pay_with(&idempotency, policy, &Runs::default(), blocking).await }
        });
        assert_eq!(paying.await.unwrap().unwrap().value, "paid", "another is held: {another_is_held}");
        watching.await.unwrap();
        if let Some(longer) = longer {
            assert_fresh(&longer.finish().await);
        }
    }
}
