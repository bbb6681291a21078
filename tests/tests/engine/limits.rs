//! How many operations may be in flight: counted from the claim on, never during an upload.

use std::time::Duration;

use axum::{Router, body::Body, routing::post as route};
use futures_util::stream;
use idem_runtime::{
    Attempt, Fingerprint, Idempotency, IdempotencyLayer, OnConflict, Operation, Policy, Principal, Refusal, Rejection,
    Settlement, store::Resolved,
};
use tests::{
    exchange::{post, send},
    faulty_store::{FaultyStore, Step},
    gate::Gate,
    probe::{Runs, cut_after},
};

use crate::support::*;

const MOST: usize = 4;

fn limited() -> Idempotency {
    Idempotency::builder(memory()).shared().max_in_flight(MOST).build()
}

fn app(idempotency: &Idempotency, gate: &Gate, runs: &Runs) -> Router {
    let (gate, runs) = (gate.clone(), runs.clone());
    let handler = async move |body: String| {
        runs.begin();
        if body == "wait" {
            gate.pass().await;
        }
        runs.end();
        body
    };
    Router::new().route("/pay", route(handler)).layer(IdempotencyLayer::new(idempotency.clone(), RETRY))
}

#[tokio::test(start_paused = true)]
async fn stalled_uploads_starve_nobody() {
    let (idempotency, gate, runs) = (limited(), Gate::new(), Runs::default());
    let app = app(&idempotency, &gate, &runs);
    let uploads: Vec<_> = (0..64)
        .map(|number| {
            let (app, uploading) = (app.clone(), Gate::new());
            let reached = uploading.clone();
            let body = Body::from_stream(stream::once(async move {
                uploading.pass().await;
                Ok::<_, std::io::Error>("late")
            }));
            let request = post("/pay", &format!("upload-{number}"), body);
            (reached, tokio::spawn(async move { send(&app, request).await }))
        })
        .collect();
    for (uploading, _) in &uploads {
        uploading.reached().await;
    }
    assert_eq!(idempotency.metrics().in_flight, 0);
    for number in 0..20 {
        let reply = send(&app, post("/pay", &format!("quick-{number}"), "now")).await;
        assert_eq!(reply.summary(), "200 fresh");
    }
    // Those that stall for good are cut by the deadline of the body, and have run nothing.
    for (_, upload) in uploads {
        assert_eq!(upload.await.unwrap().summary(), "408 body-timeout");
    }
    assert_eq!((runs.begun(), runs.ended()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limit_are_refused_and_those_whose_caller_is_gone_count() {
    let (idempotency, gate, runs) = (limited(), Gate::new(), Runs::default());
    let app = app(&idempotency, &gate, &runs);
    for number in 0..MOST {
        // The client is gone; the operation is not.
        let cut = cut_after(1, send(&app, post("/pay", &format!("slow-{number}"), "wait"))).await;
        assert!(cut.is_none());
    }
    gate.reached_by(MOST).await;
    assert_eq!(idempotency.metrics().in_flight, MOST as u64);
    let refused = send(&app, post("/pay", "one-more", "now")).await;
    assert_eq!(refused.summary(), "503 overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!((runs.begun(), idempotency.metrics().overloaded), (MOST, 1));
    gate.open();
    settled(&idempotency).await;
    assert_eq!(send(&app, post("/pay", "one-more", "now")).await.summary(), "200 fresh");
    assert_eq!(send(&app, post("/pay", "slow-0", "wait")).await.summary(), "200 replay");
    assert_eq!((runs.begun(), runs.ended()), (MOST + 1, MOST + 1));
}

/// Fifty who wait hold no place: one more operation gets through. When they are woken at once, more of them claim than may be in
/// flight, and who finds no place waits on.
#[tokio::test(start_paused = true)]
async fn those_who_wait_take_no_place() {
    let policy = RETRY.on_conflict(OnConflict::Wait(Duration::from_secs(5)));
    let store = FaultyStore::new(memory());
    let idempotency = Idempotency::builder(store.clone()).shared().max_in_flight(MOST).build();
    let (gate, runs) = (Gate::new(), Runs::default());
    let start = |idempotency: &Idempotency| {
        let (idempotency, gate, runs) = (idempotency.clone(), gate.clone(), runs.clone());
        let effect = async move |_| {
            gate.pass().await;
            Ok("paid".to_owned())
        };
        tokio::spawn(async move { pay_with(&idempotency, policy, &runs, effect).await })
    };
    let first = start(&idempotency);
    gate.reached().await;
    let waiting: Vec<_> = (0..50).map(|_| start(&idempotency)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(idempotency.metrics().in_flight, 1);
    assert_fresh(&pay(&idempotency, REFUSE, &runs).await);
    // From now on a claim takes its time, so that those who are woken have theirs beside each other.
    store.yielding(3);
    gate.open();
    assert_fresh(&first.await.unwrap());
    for waiter in waiting {
        let result = waiter.await.unwrap();
        assert!(!matches!(&result, Err(idem_runtime::ExecuteError::Refused(Refusal::Overloaded))), "{result:?}");
        assert_replay(&result);
    }
    assert_eq!(runs.begun(), 2);
}

/// A job whose name was left out would share one record with all the others.
#[tokio::test(start_paused = true)]
async fn an_operation_without_a_name_is_refused() {
    let (store, idempotency) = faulty();
    for (principal, key) in [(Principal::SHARED, ""), (Principal::new(""), "key-1")] {
        let operation = Operation::new(RETRY, principal, key);
        let ran = idempotency.execute(operation.clone(), async |_| Ok::<_, String>("ran".to_owned())).await;
        assert_refused(&ran, |refusal| matches!(refusal, Refusal::Unnamed));
        let settled = idempotency.resolve(&operation, Settlement::not_executed()).await.unwrap();
        assert_eq!(settled, Resolved::NotUnknown);
    }
    assert_eq!(store.calls(Step::Claim), 0);
}

/// A call with another amount would be answered with the value of the first.
#[tokio::test(start_paused = true)]
async fn where_money_moves_an_operation_says_what_its_key_is_used_with() {
    let (store, idempotency) = faulty();
    let charge = |operation: Operation| idempotency.execute(operation, async |_| Ok::<_, String>("ran".to_owned()));
    let unsaid = Operation::new(REFUSE, Principal::SHARED, "key-1");
    let refused = charge(unsaid.clone()).await;
    assert_refused(&refused, |refusal| *refusal == Refusal::NoFingerprint);
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("`.fingerprint(") && told.contains("`.any_input()`"), "{told}");
    assert_eq!(Rejection::from(Refusal::NoFingerprint).code().as_str(), "fingerprint-missing");
    assert_eq!((store.calls(Step::Claim), idempotency.metrics().executed), (0, 0));
    // Whoever settles it names the key alone.
    assert_eq!(idempotency.resolve(&unsaid, Settlement::executed()).await.unwrap(), Resolved::NotUnknown);

    let of = |cents: u64| unsaid.clone().fingerprint(Fingerprint::of_json(&cents).unwrap());
    assert_fresh(&charge(of(100)).await);
    assert_refused(&charge(of(200)).await, |refusal| *refusal == Refusal::Mismatch);
    let any = Operation::new(REFUSE, Principal::SHARED, "key-2").any_input();
    assert_fresh(&charge(any.clone()).await);
    assert_replay_of(&charge(any).await, "ran");
}

#[test]
#[should_panic(expected = "`ttl` must be longer than zero")]
fn an_operation_takes_no_policy_that_guards_nothing() {
    let _ = Operation::new(Policy::new("zero").ttl(Duration::ZERO), Principal::SHARED, "key-1");
}

#[test]
#[should_panic(expected = "`wait` must be at most 10 years")]
fn nobody_waits_for_ever() {
    let _ = Operation::new(RETRY.on_conflict(OnConflict::Wait(Duration::MAX)), Principal::SHARED, "key-1");
}

/// It is nobody's: no store has seen it, and no other run can have its key.
#[tokio::test(start_paused = true)]
async fn a_handler_under_a_layer_has_its_attempt_without_a_key_too() {
    let (store, idempotency) = faulty();
    let handler = async |attempt: Attempt| {
        assert!(attempt.still_owner().await.unwrap());
        format!("{} {:?}", attempt.number(), attempt.fence())
    };
    let layer = IdempotencyLayer::new(idempotency, Policy::new("optional"));
    let app = Router::new().route("/pay", route(handler)).layer(layer);
    let mut request = post("/pay", "k", "");
    request.headers_mut().remove("idempotency-key");
    assert_eq!(send(&app, request).await.text(), "1 Fence(0)");
    assert_eq!((store.calls(Step::Claim), store.calls(Step::Renew)), (0, 0));
}
