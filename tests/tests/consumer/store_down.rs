//! Stores that fail, before the effect and behind it.

use std::time::Duration;

use idem_runtime::{
    Idempotency, MemoryStore, OnStoreError, Policy,
    consumer::{ConsumeError, Consumer, Delivery, Event, ParkedReason, ProcessError},
    store::{StoreError, StoreErrorKind},
};
use tests::{
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::{Runs, RuntimeClock},
};

use crate::support::{Broke, POLICY, event, failed, outcome};

fn started(policy: Policy) -> (FaultyStore, Idempotency, Consumer) {
    let store = FaultyStore::new(MemoryStore::new());
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer = runtime.consumer(policy);
    (store, runtime, consumer)
}

async fn run(consumer: &Consumer, event: Event) -> Result<(usize, bool), ProcessError<Broke>> {
    consumer.process(event, |_| async { Ok(7) }).await.map(|done| (done.value, done.duplicate))
}

fn down() -> Fault {
    Fault::Refused(StoreErrorKind::Unreachable)
}

fn unavailable(kind: StoreErrorKind) -> ConsumeError {
    StoreError::new(kind, "as it was told to").into()
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_without_the_store() {
    let (store, runtime, consumer) = started(POLICY);
    store.fail(Step::Claim, down());
    let refused = run(&consumer, event("evt_1")).await.expect_err("refused");
    assert_eq!(refused, ProcessError::Refused(unavailable(StoreErrorKind::Unreachable)));
    assert!(matches!(refused.delivery(), Delivery::Retry { .. }));
    let results = consumer.process_many(vec![event("evt_1"), event("evt_2")], |_, _| async { Ok::<_, Broke>(7) }).await;
    for result in results {
        assert_eq!(result.expect_err("refused"), ProcessError::Refused(unavailable(StoreErrorKind::Unreachable)));
    }
    assert_eq!(consumer.park(&event("evt_1"), "why").await, Err(unavailable(StoreErrorKind::Unreachable)));
    assert_eq!(runtime.metrics().executed, 0);
    store.heal();
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
}

/// One at a time and in a batch: what needs an operator is told from what is over in a second.
#[tokio::test(start_paused = true)]
async fn a_refused_event_says_why_the_store_did_not_answer() {
    let (store, _, consumer) = started(POLICY);
    for kind in [StoreErrorKind::Unreachable, StoreErrorKind::Full, StoreErrorKind::Misconfigured] {
        store.fail(Step::Claim, Fault::Refused(kind));
        let one = run(&consumer, event("evt_1")).await.map(drop);
        let many = consumer.process_many(vec![event("evt_1")], |_, _| async { Ok::<_, Broke>(7) }).await;
        for refused in many.into_iter().map(|result| result.map(drop)).chain([one]) {
            assert_eq!(refused, Err(unavailable(kind).into()));
        }
    }
    assert_ne!(unavailable(StoreErrorKind::Full).to_string(), unavailable(StoreErrorKind::Misconfigured).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_an_answer_is_asked_again_with_the_same_tokens() {
    let (store, runtime, consumer) = started(POLICY);
    store.fail_next(Step::Claim, Fault::ReplyLost);
    store.fail_next(Step::Claim, Fault::ReplyLost);
    let results = consumer.process_many(vec![event("evt_1"), event("evt_2")], |_, _| async { Ok::<_, Broke>(7) }).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|done| !done.duplicate)), "{results:?}");
    assert_eq!(runtime.metrics().executed, 2);
}

/// Claims that were won are worth nothing with half of their leases over.
#[tokio::test(start_paused = true)]
async fn a_store_slower_than_the_leases_of_a_batch_is_as_good_as_none() {
    const BRIEF: Policy = Policy::new("brief").lease(Duration::from_millis(100)).validate_for_events();
    let (store, runtime, consumer) = started(BRIEF);
    store.fail(Step::Claim, Fault::Slow(Duration::from_millis(80)));
    let results = consumer.process_many(vec![event("evt_1"), event("evt_2")], |_, _| async { Ok::<_, Broke>(7) }).await;
    for result in results {
        assert_eq!(result.expect_err("refused"), ProcessError::Refused(unavailable(StoreErrorKind::Unavailable)));
    }
    assert_eq!(runtime.metrics().executed, 0);
    store.fail(Step::Claim, Fault::Slow(Duration::from_millis(40)));
    let results = consumer.process_many(vec![event("evt_3"), event("evt_4")], |_, _| async { Ok::<_, Broke>(7) }).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|done| !done.duplicate)), "{results:?}");
}

/// Nothing ran: it must not look as if something might have once that lease is out.
#[tokio::test(start_paused = true)]
async fn a_claim_of_a_batch_that_came_too_late_is_given_back_if_the_store_goes_away() {
    const MONEY: Policy = Policy::new("money").financial().lease(Duration::from_millis(100)).validate_for_events();
    let store = FaultyStore::new(MemoryStore::with_clock(RuntimeClock::new()));
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer = runtime.consumer(MONEY);
    store.fail_next(Step::Claim, Fault::Slow(Duration::from_millis(60)));
    store.fail(Step::Claim, down());
    let results = consumer.process_many(vec![event("evt_1")], |_, _| async { Ok::<_, Broke>(7) }).await;
    assert_eq!(results, [Err(ProcessError::Refused(unavailable(StoreErrorKind::Unreachable)))]);
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_in_a_batch_is_given_up_in_time() {
    let (store, _, consumer) = started(POLICY);
    store.fail(Step::Claim, Fault::TimedOut(Duration::from_secs(1)));
    let began = tokio::time::Instant::now();
    let events = (0..100).map(|number| event(&format!("evt_{number}"))).collect();
    let results = consumer.process_many(events, |_, _| async { Ok::<_, Broke>(7) }).await;
    assert!(results.iter().all(Result::is_err));
    assert!(began.elapsed() <= Duration::from_millis(1300), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn handlers_run_without_the_store_where_that_is_chosen() {
    let (store, runtime, consumer) = started(POLICY.on_store_error(OnStoreError::Run));
    store.fail(Step::Claim, down());
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
    assert_eq!(runtime.metrics().unguarded, 1);
    // What is only to be written down is not run.
    assert_eq!(
        run(&consumer, Event::without_id("payload")).await,
        Err(unavailable(StoreErrorKind::Unreachable).into())
    );
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, true)));
}

#[tokio::test(start_paused = true)]
async fn an_effect_behind_which_the_store_fails_is_not_doubled() {
    let (store, runtime, consumer) = started(POLICY);
    store.fail(Step::Complete, down());
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, true)));
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, true)));
    assert_eq!(runtime.metrics().executed, 1);
}

/// Acknowledged and not in the store, it would be lost with this process.
#[tokio::test(start_paused = true)]
async fn an_event_is_not_acknowledged_as_parked_before_the_store_has_it() {
    let (store, runtime, consumer) = started(POLICY.max_attempts(1));
    store.fail(Step::Complete, down());
    let fail = || consumer.process(event("evt_1"), |_| async { Err::<usize, _>(Broke("no".to_owned())) });
    for _ in 0..2 {
        let refused = fail().await.expect_err("refused");
        assert!(matches!(refused, ProcessError::Refused(ConsumeError::Unavailable { .. })), "{refused:?}");
        let parked = consumer.park(&event("evt_2"), "why").await;
        assert!(matches!(parked, Err(ConsumeError::Unavailable { .. })), "{parked:?}");
    }
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    let parked = fail().await.expect_err("parked");
    assert_eq!(parked, ProcessError::Refused(ConsumeError::Parked(ParkedReason::Failed)));
    assert_eq!(parked.delivery(), Delivery::Acknowledge);
    assert_eq!(consumer.park(&event("evt_2"), "why").await, Ok(()));
    assert_eq!(consumer.parked(10).await.expect("a list").len(), 2);
    assert_eq!(runtime.metrics().executed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_counted_although_the_store_was_down() {
    let (store, runtime, consumer) = started(POLICY);
    store.fail(Step::Release, down());
    let fail = || consumer.process(event("evt_1"), |_| async { Err::<usize, _>(Broke("no".to_owned())) });
    assert_eq!(outcome(fail().await), failed("no", 1, false));
    store.heal();
    assert!(runtime.drain(Duration::from_secs(30)).await.finished);
    assert_eq!(outcome(fail().await), failed("no", 2, false));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_neither_run_nor_acknowledged() {
    let (store, runtime, consumer) = started(POLICY);
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
    store.fail(Step::Claim, Fault::Mangled(|bytes| bytes[0] = 200));
    let refused = run(&consumer, event("evt_1")).await.expect_err("refused");
    assert_eq!(refused, ProcessError::Refused(ConsumeError::Unreadable));
    assert!(matches!(refused.delivery(), Delivery::Retry { .. }));
    assert_eq!(runtime.metrics().executed, 1);
}

/// By one delivery and by a batch: the broker must keep it, for a version that can read what is there.
#[tokio::test(start_paused = true)]
async fn an_event_whose_record_the_store_cannot_read_is_delivered_again_later() {
    let (store, runtime, consumer) = started(POLICY);
    store.fail(Step::Claim, Fault::Unreadable);
    for _ in 0..2 {
        let mut refused = vec![run(&consumer, event("evt_1")).await.map(drop)];
        let batch = vec![event("evt_1"), event("evt_2")];
        let results = consumer.process_many(batch, |_, _| async { Ok::<_, Broke>(7) }).await;
        refused.extend(results.into_iter().map(|result| result.map(drop)));
        for refused in refused {
            let refused = refused.expect_err("refused");
            assert_eq!(refused, ProcessError::Refused(ConsumeError::Unreadable));
            assert!(matches!(refused.delivery(), Delivery::Retry { .. }), "{:?}", refused.delivery());
        }
    }
    let metrics = runtime.metrics();
    assert_eq!((metrics.executed, metrics.parked, metrics.unknown, metrics.not_kept), (0, 0, 6, 0));
    store.heal();
    assert_eq!(run(&consumer, event("evt_1")).await, Ok((7, false)));
}

#[tokio::test]
async fn more_than_may_run_at_once_are_to_be_delivered_again() {
    let store = MemoryStore::new();
    let runtime = Idempotency::builder(store.clone()).shared().max_in_flight(2).build();
    let events = (0..5).map(|number| event(&format!("evt_{number}"))).collect();
    let results = runtime.consumer(POLICY).process_many(events, |_, _| async { Ok::<_, Broke>(7) }).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    let overloaded = ProcessError::Refused(ConsumeError::Overloaded);
    assert_eq!(results.iter().filter(|result| result.as_ref().is_err_and(|error| *error == overloaded)).count(), 3);
    assert_eq!((store.len(), runtime.metrics().in_flight), (2, 0));
}

/// Its own run took effect; what duplicates are told is the other's.
#[tokio::test(start_paused = true)]
async fn a_handler_that_lost_its_event_meanwhile_is_told() {
    const LEASE: Duration = Duration::from_secs(30);
    let shared = MemoryStore::with_clock(RuntimeClock::new());
    let store = FaultyStore::new(shared.clone());
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer = runtime.consumer(POLICY.lease(LEASE));
    let other = Idempotency::builder(shared).shared().build().consumer(POLICY.lease(LEASE));
    for together in [false, true] {
        let (gate, id) = (Gate::new(), format!("evt {together}"));
        let stands = tokio::spawn({
            let (consumer, gate, event) = (consumer.clone(), gate.clone(), event(&id));
            async move {
                let handler = move |gate: Gate| async move {
                    gate.pass().await;
                    Ok::<usize, Broke>(1)
                };
                match together {
                    true => consumer.process_many(vec![event], move |_, _| handler(gate.clone())).await.remove(0),
                    false => consumer.process(event, move |_| handler(gate)).await,
                }
            }
        });
        gate.reached().await;
        store.fail(Step::Renew, down());
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        let taken_over = other.process(event(&id), async |_| Ok::<usize, Broke>(7)).await;
        assert!(taken_over.is_ok_and(|done| (done.value, done.duplicate, done.lost_claim) == (7, false, false)));
        store.heal();
        gate.open();
        let stale = stands.await.expect("no panic");
        assert!(stale.is_ok_and(|done| (done.value, done.duplicate, done.lost_claim) == (1, false, true)));
        assert_eq!(run(&consumer, event(&id)).await, Ok((7, true)));
    }
    assert_eq!(runtime.metrics().stale_owners, 2);
}

/// The process was cut off while an event waited for its turn, and somebody else has run it since.
#[tokio::test(start_paused = true)]
async fn a_batch_does_not_begin_what_it_lost_while_it_waited() {
    const LEASE: Duration = Duration::from_secs(30);
    let shared = MemoryStore::with_clock(RuntimeClock::new());
    let store = FaultyStore::new(shared.clone());
    let runtime = Idempotency::builder(store.clone()).shared().build();
    let consumer = runtime.consumer(POLICY.lease(LEASE)).at_once(1);
    let other = Idempotency::builder(shared).shared().build().consumer(POLICY.lease(LEASE));
    let (gate, runs) = (Gate::new(), Runs::default());
    let batch = tokio::spawn({
        let (gate, runs) = (gate.clone(), runs.clone());
        let handler = move |_, _| {
            let (gate, runs) = (gate.clone(), runs.clone());
            async move {
                runs.begin();
                gate.pass().await;
                Ok::<_, Broke>(1)
            }
        };
        async move { consumer.process_many(vec![event("evt_1"), event("evt_2")], handler).await }
    });
    gate.reached().await;
    store.fail(Step::Renew, down());
    tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
    assert_eq!(run(&other, event("evt_2")).await, Ok((7, false)));
    store.heal();
    tokio::time::sleep(LEASE).await;
    gate.open();
    let results = batch.await.expect("no panic");
    assert!(matches!(&results[0], Ok(done) if (done.value, done.duplicate) == (1, false)), "{results:?}");
    assert!(matches!(&results[1], Ok(done) if (done.value, done.duplicate) == (7, true)), "{results:?}");
    assert_eq!(runs.begun(), 1);
}

/// Anybody who may publish can park a hundred events of a megabyte each: as one page they come within no time-out.
#[tokio::test]
async fn heavy_parked_events_are_listed_a_few_at_a_time() {
    const HEAVY: usize = 512 << 10;
    let (store, _, consumer) = started(POLICY);
    let light = (0..200).map(|number| number.to_string().into_bytes());
    let heavy = (0..40).map(|number| [number; HEAVY].to_vec());
    for payload in light.chain(heavy) {
        assert!(run(&consumer, Event::without_id(payload)).await.is_err());
    }
    store.fail(Step::Parked, Fault::TooHeavy(10 * HEAVY));
    assert_eq!(consumer.parked(1000).await.expect("a list").len(), 240);
    store.fail(Step::Parked, Fault::TooHeavy(HEAVY));
    assert_eq!(consumer.parked(1000).await.expect_err("a single page").kind(), StoreErrorKind::Unavailable);
}
