//! Requests with one key at once: one runs, the others are told to come back, or wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::StatusCode;
use idem_runtime::{Disposition, idempotent};
use sqlx::postgres::PgPoolOptions;
use tests::{
    backend::{Backend, Fixture, Postgres},
    client::Wire,
    service::{App, Call, Service},
};
use tokio::{sync::Semaphore, time::timeout};

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
    uploads_that_stall_take_nobodys_place,
    two_requests_of_one_key_at_once_are_not_mixed_up,
    attempts_that_fail_never_run_beside_each_other,
    waiters_of_an_answer_that_is_not_kept_are_told_so,
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

/// How many runs of this handler go on at once, and the most there ever were.
#[derive(Debug, Clone, Default)]
struct Beside(Arc<(AtomicUsize, AtomicUsize)>);

#[idempotent(scope = "payments", key = from_header)]
async fn pay_alone(State(app): State<App>, Extension(Beside(beside)): Extension<Beside>, call: Call) -> Response {
    let now = beside.0.fetch_add(1, SeqCst) + 1;
    beside.1.fetch_max(now, SeqCst);
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    beside.0.fetch_sub(1, SeqCst);
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
    let mut told_in_all = 0;
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
        told_in_all += told_to_come_back;
        // The refusals are not what is stored.
        let late = connections[round % 100].exchange(request.as_bytes()).await;
        assert!(late.starts_with("HTTP/1.1 201 ") && late.ends_with(&body), "{late}");
        assert!(late.contains("\r\nidempotent-replayed: true\r\n"), "{late}");
    }
    assert!(told_in_all > 0, "in {rounds} rounds nobody has met the first one in flight");
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
    let asked = service.store().steps().claims;
    service.script().let_one_go();
    first.await.expect("a reply").assert_fresh(500);
    service.script().begun(2).await;
    // Those of a replica that runs the operation by now wait for its end; of those of the other one asks.
    service.store().until("somebody here has asked again", |steps| steps.claims > asked).await;
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

/// With connections of the store's own, and with those of the service, which has other uses for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_waiters_leave_five_connections_to_others() {
    let postgres = Arc::new(Postgres::start().await);
    let backend = Backend::of(postgres.clone());
    let pool = PgPoolOptions::new().max_connections(5).connect(&postgres.url()).await.expect("a pool");
    let own = postgres.builder().max_connections(5).connect(&postgres.url()).await.expect("a store");
    let given = postgres.builder().with_pool(pool.clone()).await.expect("a store");
    for (key, store) in [("own", own), ("given", given)] {
        let service = Service::of(&backend, routes()).behind(store).start().await;
        service.script().hold();
        let first = tokio::spawn(service.post("/patiently").key(key).send());
        service.script().begun(1).await;
        let waiters: Vec<_> = (0..50).map(|_| tokio::spawn(service.post("/patiently").key(key).send())).collect();
        service.store().until("the waiters have asked", |steps| steps.claims >= 51).await;
        for other in 0..20 {
            // Long before anybody has waited long enough, however busy this machine is.
            let unrelated = sqlx::query_scalar("SELECT 1").fetch_one(&pool);
            let unrelated: Result<i32, _> = timeout(Duration::from_secs(10), unrelated).await.expect("a connection");
            assert_eq!(unrelated.expect("a row"), 1);
            service.post("/other").key(&format!("{key}-{other}")).send().await.assert_fresh(204);
        }
        service.script().release();
        let first = first.await.expect("a reply");
        first.assert_fresh(201);
        for waiter in waiters {
            waiter.await.expect("a reply").assert_replay_of(&first);
        }
        assert_eq!(service.runs(), 1);
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

async fn uploads_that_stall_take_nobodys_place(backend: Backend) {
    let service = Service::of(&backend, routes())
        .runtime(|builder| builder.principal_from_header("x-account").max_in_flight(4))
        .start()
        .await;
    let begun = Arc::new(Semaphore::new(0));
    let uploads: Vec<_> = (0..64)
        .map(|number| {
            let begun = begun.clone();
            let first = stream::once(async move {
                begun.add_permits(1);
                Ok::<_, std::io::Error>(Bytes::from("{"))
            });
            let body = Body::from_stream(first.chain(stream::pending()));
            tokio::spawn(service.post("/pay").key(&format!("stalled-{number}")).body(body).try_send())
        })
        .collect();
    drop(begun.acquire_many(64).await.expect("uploads that have begun"));
    for key in 0..10 {
        service.post("/pay").key(&key.to_string()).body("{}").send().await.assert_fresh(201);
    }
    assert_eq!(service.runs(), 10);
    assert_eq!(service.idempotency().metrics().in_flight, 0);
    for upload in uploads {
        upload.abort();
    }
}

async fn two_requests_of_one_key_at_once_are_not_mixed_up(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    service.script().answer(|_, call| (StatusCode::CREATED, call.body.clone()).into_response());
    for round in 1..=20 {
        let key = round.to_string();
        let all = (0..40).map(|number| {
            let body = if number % 3 == 0 { "a" } else { "b" };
            let ask = service.replica(number % 2).post("/in-steps").key(&key).body(body);
            async move { (body, ask.send().await) }
        });
        let replies = join_all(all).await;
        assert_eq!(service.runs(), round);
        let ran = service.script().calls()[round - 1].body.clone();
        for (body, reply) in replies {
            if body.as_bytes() != ran {
                reply.assert_problem(422, "key-reused");
            } else if reply.status == 409 {
                reply.assert_problem(409, "in-flight");
            } else {
                assert_eq!((reply.status.as_u16(), &reply.body), (201, &ran), "{reply}");
            }
        }
    }
}

async fn attempts_that_fail_never_run_beside_each_other(backend: Backend) {
    let beside = Beside::default();
    let routes = Router::new().route("/alone", post(pay_alone)).layer(Extension(beside.clone()));
    let service = Service::of(&backend, routes).replicas(3).start().await;
    // Every fifth run succeeds, the others fail in one way or another.
    service.script().answer(|run, _| match run % 5 {
        0 => StatusCode::CREATED.into_response(),
        1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        2 => panic!("the handler panics, as it is told to"),
        3 => (StatusCode::OK, Disposition::Release).into_response(),
        _ => StatusCode::PAYMENT_REQUIRED.into_response(),
    });
    for round in 1..=10 {
        let key = round.to_string();
        // Until it has succeeded, and once more.
        while service.runs() < round * 5 {
            join_all((0..30).map(|number| service.replica(number % 3).post("/alone").key(&key).send())).await;
        }
        let late = service.post("/alone").key(&key).send().await;
        assert_eq!((late.status.as_u16(), late.is_replay()), (201, true), "{late}");
        assert_eq!(service.runs(), round * 5, "nothing runs after a success");
    }
    assert_eq!(beside.0.1.load(SeqCst), 1, "never two at once");
}

async fn waiters_of_an_answer_that_is_not_kept_are_told_so(backend: Backend) {
    let service = Service::of(&backend, routes())
        .runtime(|builder| builder.principal_from_header("x-account").max_answer_bytes(5))
        .replicas(2)
        .start()
        .await;
    service.script().hold();
    let first = tokio::spawn(service.post("/patiently").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> =
        (0..6).map(|number| tokio::spawn(service.replica(number % 2).post("/patiently").key("k").send())).collect();
    service.store().until("the waiters of this replica have asked", |steps| steps.claims >= 4).await;
    service.script().release();
    first.await.expect("a reply").assert_fresh(201);
    for waiter in waiters {
        waiter.await.expect("a reply").assert_problem(409, "response-not-kept");
    }
    assert_eq!(service.runs(), 1);
}
