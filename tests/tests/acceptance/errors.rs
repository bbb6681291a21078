//! Answers that are errors, requests that are no requests, and handlers that panic.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::StatusCode;
use idem_runtime::{Disposition, idempotent};
use serde::{Deserialize, Serialize};
use tests::{
    backend::Backend,
    service::{App, Call, Service},
};

tests::on_every_store!(
    an_error_frees_the_key,
    a_definitive_error_is_replayed_where_that_is_chosen,
    every_answer_is_replayed_where_that_is_chosen,
    each_status_is_kept_by_its_rule,
    a_redirect_says_that_it_happened,
    the_handler_may_free_the_key_after_a_success,
    the_handler_may_keep_an_error,
    the_handler_may_leave_the_outcome_unknown,
    an_error_by_the_question_mark_frees_the_key,
    a_body_that_cannot_be_read_does_not_burn_the_key,
    a_body_over_the_limit_does_not_burn_the_key,
    a_body_that_breaks_off_does_not_burn_the_key,
    a_body_that_never_comes_does_not_burn_the_key,
    a_panic_is_answered_and_the_next_request_runs,
    a_panic_wakes_who_waits,
    a_panic_where_money_moves_leaves_the_outcome_unknown,
    a_panic_where_money_moves_is_no_reason_to_run_for_who_waits,
    a_panic_takes_the_server_nowhere,
);

#[idempotent(scope = "payments", key = from_header)]
async fn success(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, store = definitive)]
async fn definitive(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, store = all)]
async fn all(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_conflict = wait("50s"))]
async fn patient(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, financial)]
async fn financial(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, financial, on_conflict = wait("50s"))]
async fn patient_financial(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[derive(Debug, Deserialize, Serialize)]
struct NewPayment {
    amount: u64,
}

struct Declined;

impl IntoResponse for Declined {
    fn into_response(self) -> Response {
        StatusCode::PAYMENT_REQUIRED.into_response()
    }
}

#[idempotent(scope = "payments", key = from_header)]
async fn typed(State(app): State<App>, Json(mut request): Json<NewPayment>) -> Result<Json<NewPayment>, Declined> {
    let call = Call {
        method: "POST".parse().map_err(|_| Declined)?,
        uri: "/typed".parse().map_err(|_| Declined)?,
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
    };
    let answer = app.run(call).await;
    if answer.status() != StatusCode::CREATED {
        Err(Declined)?;
    }
    request.amount += 1;
    Ok(Json(request))
}

fn routes() -> Router<App> {
    Router::new()
        .route("/success", post(success))
        .route("/definitive", post(definitive))
        .route("/all", post(all))
        .route("/patient", post(patient))
        .route("/financial", post(financial))
        .route("/patient-financial", post(patient_financial))
        .route("/typed", post(typed).layer(DefaultBodyLimit::max(1000)))
}

async fn service(backend: &Backend) -> Service {
    Service::start(backend, routes()).await
}

async fn an_error_frees_the_key(backend: Backend) {
    let service = service(&backend).await;
    for (number, errors) in [&[402, 200][..], &[503, 200]].into_iter().enumerate() {
        let key = number.to_string();
        let errors: &'static [u16] = errors;
        let before = service.runs();
        service.script().answer(move |run, _| {
            let status = StatusCode::from_u16(errors[run - 1 - before]).expect("a status");
            (status, run.to_string()).into_response()
        });
        service.post("/success").key(&key).send().await.assert_fresh(errors[0]);
        let second = service.post("/success").key(&key).send().await;
        second.assert_fresh(200);
        service.post("/success").key(&key).send().await.assert_replay_of(&second);
        assert_eq!(service.runs(), before + 2);
    }
}

async fn a_definitive_error_is_replayed_where_that_is_chosen(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[503, 402, 200]);
    service.post("/definitive").key("k").send().await.assert_fresh(503);
    let declined = service.post("/definitive").key("k").send().await;
    declined.assert_fresh(402);
    service.post("/definitive").key("k").send().await.assert_replay_of(&declined);
    assert_eq!(service.runs(), 2);
}

async fn every_answer_is_replayed_where_that_is_chosen(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[402, 503, 200]);
    for (key, status) in [("402", 402), ("503", 503)] {
        let first = service.post("/all").key(key).send().await;
        first.assert_fresh(status);
        service.post("/all").key(key).send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 2);
}

async fn each_status_is_kept_by_its_rule(backend: Backend) {
    let service = service(&backend).await;
    let statuses = [
        200, 201, 202, 204, 206, 207, 301, 303, 307, 400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 415, 418,
        422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 599,
    ];
    for status in statuses {
        service.script().answer(move |run, _| {
            (StatusCode::from_u16(status).expect("a status"), [("location", "/there")], run.to_string()).into_response()
        });
        for path in ["/success", "/definitive", "/all"] {
            let kept = match path {
                "/success" => status < 400,
                "/definitive" => status < 500 && ![401, 403, 408, 425, 429].contains(&status),
                _ => true,
            };
            let first = service.post(path).key(&status.to_string()).send().await;
            first.assert_fresh(status);
            let second = service.post(path).key(&status.to_string()).send().await;
            assert_eq!(second.is_replay(), kept, "{path} {status}");
            assert_eq!(second.status.as_u16(), status);
        }
    }
}

async fn a_redirect_says_that_it_happened(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| axum::response::Redirect::to("/orders/1").into_response());
    let first = service.post("/success").key("k").send().await;
    first.assert_fresh(303);
    let replay = service.post("/success").key("k").send().await;
    replay.assert_replay_of(&first);
    assert_eq!(replay.header("location").as_deref(), Some("/orders/1"));
}

async fn the_handler_may_free_the_key_after_a_success(backend: Backend) {
    let service = service(&backend).await;
    for path in ["/success", "/definitive", "/all"] {
        let before = service.runs();
        service.script().answer(move |run, _| match run - before {
            1 => (StatusCode::ACCEPTED, Disposition::Release, "not yet").into_response(),
            _ => "done".into_response(),
        });
        service.post(path).key("k").send().await.assert_fresh(202);
        let second = service.post(path).key("k").send().await;
        second.assert_fresh(200);
        service.post(path).key("k").send().await.assert_replay_of(&second);
        assert_eq!(service.runs(), before + 2);
    }
}

async fn the_handler_may_keep_an_error(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| (StatusCode::BAD_GATEWAY, Disposition::Store, "charged, then lost").into_response());
    for path in ["/success", "/definitive", "/all"] {
        let first = service.post(path).key("k").send().await;
        first.assert_fresh(502);
        service.post(path).key("k").send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 3);
}

async fn the_handler_may_leave_the_outcome_unknown(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| (StatusCode::OK, Disposition::Unknown, "who knows").into_response());
    for path in ["/success", "/definitive", "/all", "/financial"] {
        let first = service.post(path).key("k").send().await;
        first.assert_fresh(200);
        assert_eq!(first.text(), "who knows");
        service.post(path).key("k").send().await.assert_problem(409, "outcome-unknown");
        service.post(path).key("k").body("other").send().await.assert_problem(422, "key-reused");
    }
    assert_eq!(service.runs(), 4);
}

async fn an_error_by_the_question_mark_frees_the_key(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[402, 201]);
    let ask = || service.post("/typed").key("k").json(r#"{"amount":1}"#);
    ask().send().await.assert_fresh(402);
    let second = ask().send().await;
    second.assert_fresh(200);
    assert_eq!(second.text(), r#"{"amount":2}"#);
    ask().send().await.assert_replay_of(&second);
    assert_eq!(service.runs(), 2);
}

async fn a_body_that_cannot_be_read_does_not_burn_the_key(backend: Backend) {
    let service = service(&backend).await;
    let ask = || service.post("/typed").key("k");
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("{\"amount\":}", 400),
        ("{\"amount\":\"1\"}", 422),
        ("{\"amount\":-1}", 422),
        ("{\"amount\":1.5}", 422),
        ("{}", 422),
        ("[]", 422),
        ("{\"amount\":1,\"amount\":1}", 422),
    ] {
        let refused = ask().json(body).send().await;
        assert_eq!(refused.status, status, "`{body}`: {refused}");
    }
    assert_eq!(ask().body("{\"amount\":1}").send().await.status, 415);
    assert_eq!(service.runs(), 0);
    assert_eq!(service.store().steps().claims, 0);
    assert_eq!(backend.records().await, 0);
    let first = ask().json(r#"{"amount":1}"#).send().await;
    first.assert_fresh(200);
    // And a broken retry changes nothing of what is there.
    assert_eq!(ask().json("{").send().await.status, 400);
    ask().json(r#"{"amount":1}"#).send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_body_over_the_limit_does_not_burn_the_key(backend: Backend) {
    let service = service(&backend).await;
    let large = format!(r#"{{"amount":1,"note":"{}"}}"#, "x".repeat(1000));
    let ask = || service.post("/typed").key("k");
    ask().json(large.clone()).send().await.assert_problem(413, "body-too-large");
    let pieces = large.as_bytes().chunks(100).map(Bytes::copy_from_slice).collect();
    ask().json("").chunked(pieces).send().await.assert_problem(413, "body-too-large");
    assert_eq!(service.store().steps().claims, 0);
    ask().json(r#"{"amount":1}"#).send().await.assert_fresh(200);
    assert_eq!(service.runs(), 1);
}

async fn a_body_that_breaks_off_does_not_burn_the_key(backend: Backend) {
    let service = service(&backend).await;
    for framing in
        ["Content-Length: 50\r\n\r\n{\"amount\"", "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"amount\"\r\nzz\r\n"]
    {
        let head =
            "POST /success HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: k\r\nConnection: close\r\n";
        let wire = tests::client::Wire::connect(service.client().address()).await;
        wire.send_and_close(format!("{head}{framing}").as_bytes()).await;
    }
    assert_eq!(service.store().steps().claims, 0);
    service.post("/success").key("k").body("{\"amount\":1}").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn a_body_that_never_comes_does_not_burn_the_key(backend: Backend) {
    let service = Service::of(&backend, routes())
        .runtime(|builder| builder.principal_from_header("x-account").body_deadline(Duration::from_millis(100)))
        .start()
        .await;
    let begun = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("{"))]);
    let stalled = futures_util::StreamExt::chain(begun, futures_util::stream::pending());
    let reply = service.post("/success").key("k").body(Body::from_stream(stalled)).send().await;
    reply.assert_problem(408, "body-timeout");
    assert_eq!(service.store().steps().claims, 0);
    service.post("/success").key("k").body("{}").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn a_panic_is_answered_and_the_next_request_runs(backend: Backend) {
    let service = service(&backend).await;
    panic_first(&service);
    let panicked = service.post("/success").key("k").send().await;
    panicked.assert_problem_for_now(500, "panicked");
    assert!(!panicked.text().contains("as it is told to"), "the panic's text is nobody's business: {panicked}");
    let second = service.post("/success").key("k").send().await;
    second.assert_fresh(200);
    service.post("/success").key("k").send().await.assert_replay_of(&second);
    assert_eq!(service.runs(), 2);
    assert_eq!(service.idempotency().metrics().panics, 1);
}

async fn a_panic_wakes_who_waits(backend: Backend) {
    let service = service(&backend).await;
    panic_first(&service);
    service.script().hold();
    let first = tokio::spawn(service.post("/patient").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> = (0..5).map(|_| tokio::spawn(service.post("/patient").key("k").send())).collect();
    service.store().until("the waiters have asked", |steps| steps.claims >= 6).await;
    service.script().release();
    first.await.expect("a reply").assert_problem_for_now(500, "panicked");
    let mut fresh = 0;
    for waiter in waiters {
        let reply = waiter.await.expect("a reply");
        assert_eq!(reply.status, 200, "{reply}");
        fresh += usize::from(!reply.is_replay());
    }
    assert_eq!((fresh, service.runs()), (1, 2));
}

async fn a_panic_where_money_moves_leaves_the_outcome_unknown(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    panic_first(&service);
    service.post("/financial").key("k").send().await.assert_problem(500, "panicked");
    for replica in [0, 1, 0] {
        service.replica(replica).post("/financial").key("k").send().await.assert_problem(409, "outcome-unknown");
    }
    service.post("/financial").key("k").body("other").send().await.assert_problem(422, "key-reused");
    service.post("/financial").key("k2").send().await.assert_fresh(200);
    assert_eq!(service.runs(), 2);
}

async fn a_panic_where_money_moves_is_no_reason_to_run_for_who_waits(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    panic_first(&service);
    service.script().hold();
    let first = tokio::spawn(service.post("/patient-financial").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> = (0..6)
        .map(|number| tokio::spawn(service.replica(number % 2).post("/patient-financial").key("k").send()))
        .collect();
    service.store().until("the waiters have asked", |steps| steps.claims >= 4).await;
    service.script().release();
    first.await.expect("a reply").assert_problem(500, "panicked");
    for waiter in waiters {
        waiter.await.expect("a reply").assert_problem(409, "outcome-unknown");
    }
    assert_eq!(service.runs(), 1);
}

async fn a_panic_takes_the_server_nowhere(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| panic!("the handler panics, as it is told to"));
    let mut wire = tests::client::Wire::connect(service.client().address()).await;
    for number in 1..=5 {
        let request = format!(
            "POST /success HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: {number}\r\nContent-Length: 0\r\n\r\n"
        );
        // One connection for all of them: a panic does not even close it.
        assert!(wire.exchange(request.as_bytes()).await.starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(service.runs(), 5);
    let metrics = service.idempotency().metrics();
    assert_eq!((metrics.panics, metrics.in_flight), (5, 0));
}

/// The first run panics, the others answer 200.
fn panic_first(service: &Service) {
    service.script().answer(|run, _| {
        assert!(run != 1, "the handler panics, as it is told to");
        (StatusCode::OK, run.to_string()).into_response()
    });
}
