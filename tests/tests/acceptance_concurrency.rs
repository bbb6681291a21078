//! Requests with one key at once: one runs, the others are told to come back, or wait.

use std::time::{Duration, Instant};

use axum::{Router, extract::State, response::Response, routing::post};
use futures_util::future::join_all;
use http::StatusCode;
use idem_runtime::idempotent;
use tests::{
    backend::Backend,
    client::Wire,
    service::{App, Call, Service},
};

tests::on_every_store!(
    a_hundred_at_once_run_once,
    a_hundred_at_once_over_three_replicas_run_once,
    a_duplicate_in_flight_is_told_to_come_back,
    a_refusal_in_flight_is_not_stored,
    waiters_get_the_first_answer,
    waiters_get_the_answer_of_a_handler_that_takes_its_time,
    who_waited_long_enough_is_told_to_come_back,
    one_waiter_takes_over_when_the_first_run_releases,
    waiters_whose_client_is_gone_keep_nobody_waiting,
    fifty_waiters_hold_up_nobody,
    other_keys_run_beside_a_held_one,
    more_than_may_be_in_flight_are_refused,
);

#[idempotent(scope = "payments", key = from_header)]
async fn pay(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header)]
async fn pay_in_steps(State(app): State<App>, call: Call) -> Response {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_conflict = wait("50s"))]
async fn pay_patiently(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_conflict = wait("10s"))]
async fn pay_slowly(State(app): State<App>, call: Call) -> Response {
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_conflict = wait("200ms"))]
async fn pay_hastily(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "others", key = from_header)]
async fn other(_: Call) -> StatusCode {
    StatusCode::NO_CONTENT
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/in-steps", post(pay_in_steps))
        .route("/patiently", post(pay_patiently))
        .route("/slowly", post(pay_slowly))
        .route("/hastily", post(pay_hastily))
        .route("/other", post(other))
}

async fn service(backend: &Backend) -> Service {
    Service::start(backend, routes()).await
}

async fn a_hundred_at_once_run_once(backend: Backend) {
    race(&service(&backend).await, 1, backend.rounds() / 4).await;
}

async fn a_hundred_at_once_over_three_replicas_run_once(backend: Backend) {
    race(&Service::of(&backend, routes()).replicas(3).start().await, 3, backend.rounds() * 3 / 4).await;
}

/// A hundred connections send one key at once; the next round is another key.
async fn race(service: &Service, replicas: usize, rounds: usize) {
    let mut connections = Vec::new();
    for number in 0..100 {
        connections.push(Wire::connect(service.replica(number % replicas).address()).await);
    }
    for round in 1..=rounds {
        let request = format!(
            "POST /in-steps HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: round-{round}\r\n\
             Content-Length: 2\r\n\r\n{{}}"
        );
        let replies = join_all(connections.iter_mut().map(|wire| wire.exchange(request.as_bytes()))).await;
        let body = format!(r#"{{"run":{round}}}"#);
        let (mut fresh, mut told_to_come_back) = (0, 0);
        for reply in &replies {
            if reply.starts_with("HTTP/1.1 201 ") {
                assert!(reply.ends_with(&body), "not the answer of this round's run, {body}: {reply}");
                fresh += usize::from(!reply.contains("\r\nidempotent-replayed: true\r\n"));
            } else {
                assert!(reply.starts_with("HTTP/1.1 409 "), "{reply}");
                assert!(reply.contains("\r\nretry-after: 1\r\n"), "{reply}");
                assert!(reply.contains(r#""code":"in-flight""#), "{reply}");
                told_to_come_back += 1;
            }
        }
        assert_eq!((fresh, service.runs()), (1, round), "{told_to_come_back} were told to come back");
        // The refusals are not what is stored.
        let late = connections[round % 100].exchange(request.as_bytes()).await;
        assert!(late.starts_with("HTTP/1.1 201 ") && late.ends_with(&body), "{late}");
        assert!(late.contains("\r\nidempotent-replayed: true\r\n"), "{late}");
    }
}

async fn a_duplicate_in_flight_is_told_to_come_back(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    service.script().hold();
    let first = tokio::spawn(service.post("/pay").key("k").send());
    service.script().begun(1).await;
    for replica in [0, 1, 0, 1] {
        service.replica(replica).post("/pay").key("k").send().await.assert_problem(409, "in-flight");
    }
    service.script().release();
    first.await.expect("a reply").assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn a_refusal_in_flight_is_not_stored(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/pay").key("k").send());
    service.script().begun(1).await;
    service.post("/pay").key("k").send().await.assert_problem(409, "in-flight");
    service.script().release();
    let first = first.await.expect("a reply");
    service.post("/pay").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
    assert_eq!(service.idempotency().metrics().conflicts, 1);
}

async fn waiters_get_the_first_answer(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(3).start().await;
    service.script().hold();
    let first = tokio::spawn(service.post("/patiently").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> =
        (0..30).map(|number| tokio::spawn(service.replica(number % 3).post("/patiently").key("k").send())).collect();
    service.store().until("the waiters of this replica have asked", |steps| steps.claims >= 11).await;
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    for waiter in waiters {
        waiter.await.expect("a reply").assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
}

async fn waiters_get_the_answer_of_a_handler_that_takes_its_time(backend: Backend) {
    let service = service(&backend).await;
    let replies = join_all((0..20).map(|_| service.post("/slowly").key("k").send())).await;
    let (replays, fresh): (Vec<_>, Vec<_>) = replies.into_iter().partition(tests::client::Reply::is_replay);
    let [first] = &fresh[..] else { panic!("not one ran: {fresh:?}") };
    first.assert_fresh(201);
    for replay in replays {
        replay.assert_replay_of(first);
    }
    assert_eq!(service.runs(), 1);
}

async fn who_waited_long_enough_is_told_to_come_back(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/hastily").key("k").send());
    service.script().begun(1).await;
    let start = Instant::now();
    service.post("/hastily").key("k").send().await.assert_problem(409, "in-flight");
    let waited = start.elapsed();
    // A second is promised; this machine may be busy with other tests.
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&waited), "waited {waited:?}");
    service.script().release();
    let first = first.await.expect("a reply");
    service.post("/hastily").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn one_waiter_takes_over_when_the_first_run_releases(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    service.script().statuses(&[500, 201]);
    service.script().hold();
    let first = tokio::spawn(service.post("/patiently").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> =
        (0..10).map(|number| tokio::spawn(service.replica(number % 2).post("/patiently").key("k").send())).collect();
    service.store().until("the waiters of this replica have asked", |steps| steps.claims >= 6).await;
    service.script().let_one_go();
    first.await.expect("a reply").assert_fresh(500);
    service.script().begun(2).await;
    let asked = service.store().steps().claims;
    service.store().until("the others have asked again", |steps| steps.claims >= asked + 5).await;
    assert_eq!(service.runs(), 2, "one has taken over, and only one");
    service.script().release();
    let mut replies = Vec::new();
    for waiter in waiters {
        replies.push(waiter.await.expect("a reply"));
    }
    let (replays, fresh): (Vec<_>, Vec<_>) = replies.into_iter().partition(tests::client::Reply::is_replay);
    let [taken_over] = &fresh[..] else { panic!("not one took over: {fresh:?}") };
    taken_over.assert_fresh(201);
    for replay in replays {
        replay.assert_replay_of(taken_over);
    }
    assert_eq!(service.runs(), 2);
}

async fn waiters_whose_client_is_gone_keep_nobody_waiting(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/patiently").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> = (0..10).map(|_| tokio::spawn(service.post("/patiently").key("k").send())).collect();
    service.store().until("the waiters have asked", |steps| steps.claims >= 11).await;
    for waiter in &waiters {
        waiter.abort();
    }
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    service.post("/patiently").key("k").send().await.assert_replay_of(&first);
    assert!(service.idempotency().drain(Duration::from_secs(30)).await.finished);
    assert_eq!(service.runs(), 1);
}

async fn fifty_waiters_hold_up_nobody(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/patiently").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> = (0..50).map(|_| tokio::spawn(service.post("/patiently").key("k").send())).collect();
    service.store().until("the waiters have asked", |steps| steps.claims >= 51).await;
    for key in 0..20 {
        service.post("/other").key(&key.to_string()).send().await.assert_fresh(204);
    }
    service.script().release();
    let first = first.await.expect("a reply");
    for waiter in waiters {
        waiter.await.expect("a reply").assert_replay_of(&first);
    }
}

async fn other_keys_run_beside_a_held_one(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let mut held = Vec::new();
    for number in 1..=20 {
        held.push(tokio::spawn(service.post("/pay").key(&number.to_string()).send()));
        service.script().begun(number).await;
    }
    service.script().release();
    for first in held {
        first.await.expect("a reply").assert_fresh(201);
    }
    assert_eq!(backend.records().await, 20);
}

async fn more_than_may_be_in_flight_are_refused(backend: Backend) {
    let service = Service::of(&backend, routes())
        .runtime(|builder| builder.principal_from_header("x-account").max_in_flight(2))
        .start()
        .await;
    service.script().hold();
    let held: Vec<_> =
        (0..2).map(|number| tokio::spawn(service.post("/pay").key(&number.to_string()).send())).collect();
    service.script().begun(2).await;
    for _ in 0..3 {
        service.post("/pay").key("3").send().await.assert_problem(503, "overloaded");
    }
    service.script().release();
    for first in held {
        first.await.expect("a reply").assert_fresh(201);
    }
    // The place is given back before the answer is sent, and the refusal is not stored.
    service.post("/pay").key("3").send().await.assert_fresh(201);
    assert_eq!(service.idempotency().metrics().overloaded, 3);
    assert_eq!(service.runs(), 3);
}
