//! Time: how long an answer is replayed and a claim holds, and whose clock says so.
//!
//! The memory store's clock stands at the beginning of 2026 in every test, however late it is on this host: nothing but the
//! store's clock may decide.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use idem_runtime::{Disposition, idempotent};
use tests::{
    backend::Backend,
    client::Reply,
    service::{App, Call, Service},
};

tests::on_every_store!(
    an_answer_is_replayed_until_its_time_is_over,
    the_time_of_an_answer_starts_when_it_is_complete,
    a_replay_does_not_start_the_time_again,
    an_answer_may_be_forgotten_before_the_run_is,
    what_is_remembered_is_still_compared,
    a_handler_that_outlives_its_ttl_and_its_lease_is_not_doubled,
    a_short_run_renews_nothing,
    a_released_key_is_free_at_once,
    an_unknown_outcome_stays_unknown,
    an_answer_that_is_not_kept_is_remembered_as_long_as_one_that_is,
);

const TTL: Duration = Duration::from_secs(2);

#[idempotent(scope = "payments", key = from_header, ttl = "2s")]
async fn short(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

const REMEMBER: Duration = Duration::from_secs(4);

#[idempotent(scope = "payments", key = from_header, ttl = "2s", remember = "4s")]
async fn remembered(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

const LEASE: Duration = Duration::from_secs(3);

#[idempotent(scope = "payments", key = from_header, ttl = "1s", lease = "3s")]
async fn leased(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn service(backend: &Backend) -> Service {
    let routes = Router::new()
        .route("/short", post(short))
        .route("/remembered", post(remembered))
        .route("/leased", post(leased));
    Service::start(backend, routes).await
}

/// Completes an operation, lets this part of `limit` go by, and asks again. On a clock that runs by itself the test may be
/// too slow to tell; it then begins again with another key.
async fn ask_within(
    backend: &Backend,
    service: &Service,
    path: &str,
    limit: Duration,
    part: Duration,
) -> (String, Reply) {
    for round in 0..10 {
        let key = format!("round-{round}");
        let begun = backend.now().await;
        let first = service.post(path).key(&key).send().await;
        first.assert_fresh(201);
        backend.pass(part).await;
        let retry = service.post(path).key(&key).send().await;
        if backend.now().await < begun + limit {
            retry.assert_replay_of(&first);
            return (key, first);
        }
    }
    panic!("this machine is too slow to ask within {limit:?}");
}

async fn an_answer_is_replayed_until_its_time_is_over(backend: Backend) {
    let service = service(&backend).await;
    let just_before = TTL * 9 / 10;
    let (key, _) = ask_within(&backend, &service, "/short", TTL, just_before).await;
    let runs = service.runs();
    backend.pass(TTL - just_before + Duration::from_millis(1)).await;
    service.post("/short").key(&key).send().await.assert_fresh(201);
    assert_eq!(service.runs(), runs + 1);
}

async fn the_time_of_an_answer_starts_when_it_is_complete(backend: Backend) {
    let service = service(&backend).await;
    for round in 1..=10 {
        let key = round.to_string();
        service.script().hold();
        let first = tokio::spawn(service.post("/short").key(&key).send());
        service.script().begun(round).await;
        backend.pass(TTL + Duration::from_millis(1)).await;
        let released = backend.now().await;
        service.script().release();
        let first = first.await.expect("a reply");
        first.assert_fresh(201);
        backend.pass(TTL / 2).await;
        let retry = service.post("/short").key(&key).send().await;
        if backend.now().await < released + TTL {
            retry.assert_replay_of(&first);
            assert_eq!(service.runs(), round);
            return;
        }
    }
    panic!("this machine is too slow to ask within {TTL:?}");
}

async fn a_replay_does_not_start_the_time_again(backend: Backend) {
    let service = service(&backend).await;
    let (key, _) = ask_within(&backend, &service, "/short", TTL, TTL / 2).await;
    backend.pass(TTL / 2 + Duration::from_millis(1)).await;
    service.post("/short").key(&key).send().await.assert_fresh(201);
}

async fn an_answer_may_be_forgotten_before_the_run_is(backend: Backend) {
    let service = service(&backend).await;
    for round in 1..=10 {
        let key = round.to_string();
        let begun = backend.now().await;
        service.post("/remembered").key(&key).send().await.assert_fresh(201);
        backend.pass(TTL + Duration::from_millis(1)).await;
        let late = service.post("/remembered").key(&key).send().await;
        if backend.now().await < begun + REMEMBER {
            late.assert_problem(409, "response-not-kept");
            assert_eq!(service.runs(), round);
            backend.pass(REMEMBER - TTL).await;
            service.post("/remembered").key(&key).send().await.assert_fresh(201);
            assert_eq!(service.runs(), round + 1);
            return;
        }
    }
    panic!("this machine is too slow to ask within {REMEMBER:?}");
}

async fn what_is_remembered_is_still_compared(backend: Backend) {
    let service = service(&backend).await;
    for round in 1..=10 {
        let key = round.to_string();
        let begun = backend.now().await;
        service.post("/remembered").key(&key).body("1").send().await.assert_fresh(201);
        backend.pass(TTL + Duration::from_millis(1)).await;
        let other = service.post("/remembered").key(&key).body("2").send().await;
        if backend.now().await < begun + REMEMBER {
            other.assert_problem(422, "key-reused");
            assert_eq!(service.runs(), round);
            return;
        }
    }
    panic!("this machine is too slow to ask within {REMEMBER:?}");
}

async fn a_handler_that_outlives_its_ttl_and_its_lease_is_not_doubled(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/leased").key("k").send());
    service.script().begun(1).await;
    for _ in 0..3 {
        backend.pass(LEASE / 2).await;
        let renewed = service.store().steps().renewals;
        // Two, as the first may have been on its way while the time went by.
        service.store().until("the lease is renewed", |steps| steps.renewals >= renewed + 2).await;
        service.post("/leased").key("k").send().await.assert_problem(409, "in-flight");
    }
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    assert_eq!(service.runs(), 1);
    let metrics = service.idempotency().metrics();
    assert_eq!((metrics.stale_owners, metrics.store_errors), (0, 0));
    // And once it is done nobody renews any more.
    let renewed = service.store().steps().renewals;
    tokio::time::sleep(LEASE / 3 + Duration::from_millis(200)).await;
    assert_eq!(service.store().steps().renewals, renewed);
}

async fn a_short_run_renews_nothing(backend: Backend) {
    let service = service(&backend).await;
    for key in 0..20 {
        service.post("/leased").key(&key.to_string()).send().await.assert_fresh(201);
    }
    assert_eq!(service.store().steps().renewals, 0);
}

async fn a_released_key_is_free_at_once(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[500, 500, 500, 201]);
    for _ in 0..3 {
        service.post("/leased").key("k").send().await.assert_fresh(500);
        assert_eq!(backend.records().await, 0);
    }
    service.post("/leased").key("k").send().await.assert_fresh(201);
    assert_eq!(backend.records().await, 1);
}

async fn an_unknown_outcome_stays_unknown(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| (StatusCode::OK, Disposition::Unknown).into_response());
    for path in ["/short", "/remembered"] {
        service.post(path).key("k").send().await.assert_fresh(200);
    }
    backend.pass(REMEMBER + Duration::from_millis(1)).await;
    for path in ["/short", "/remembered"] {
        service.post(path).key("k").send().await.assert_problem(409, "outcome-unknown");
    }
    assert_eq!(service.runs(), 2);
}

async fn an_answer_that_is_not_kept_is_remembered_as_long_as_one_that_is(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| vec![7; (1 << 20) + 1].into_response());
    let mut told = None;
    for round in 0..10 {
        let key = round.to_string();
        let begun = backend.now().await;
        service.post("/short").key(&key).send().await.assert_fresh(200);
        let retry = service.post("/short").key(&key).send().await;
        if backend.now().await < begun + TTL {
            retry.assert_problem(409, "response-not-kept");
            told = Some(key);
            break;
        }
    }
    let Some(key) = told else { panic!("this machine is too slow to ask within {TTL:?}") };
    let runs = service.runs();
    backend.pass(TTL + Duration::from_millis(1)).await;
    service.post("/short").key(&key).send().await.assert_fresh(200);
    assert_eq!(service.runs(), runs + 1);
}
