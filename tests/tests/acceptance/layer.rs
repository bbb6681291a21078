//! The same guard as a layer, around handlers that know nothing of it.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use http::{Method, StatusCode, request::Parts};
use idem_runtime::{
    Attempt, Disposition, FinancialRouter, FingerprintRule, Idempotency, IdempotencyLayer, KeySource, KeySpace,
    MemoryStore, OnConflict, Policy, StoreRule, financial, idempotent,
};
use tests::{
    backend::Backend,
    exchange,
    gate::Gate,
    service::{App, Call, Script, Service},
};
use tower::{Layer, limit::ConcurrencyLimitLayer};

tests::on_every_store!(
    a_key_is_optional_by_default,
    a_key_may_be_required,
    only_methods_that_change_something_are_guarded,
    every_guarded_method_is_an_operation_of_its_own,
    a_retry_gets_the_first_answer,
    a_duplicate_in_flight_is_told_to_come_back,
    a_duplicate_may_wait,
    errors_and_mismatches_are_those_of_the_attribute,
    a_handler_says_its_word,
    a_handler_knows_its_attempt,
    a_policy_chooses_the_key,
    one_space_covers_a_whole_router,
    a_refusal_by_a_layer_inside_does_not_burn_the_key,
    a_body_that_the_handler_cannot_read_does_not_burn_the_key,
    a_body_over_the_limit_does_not_burn_the_key,
    who_is_refused_outside_gets_no_replay,
    a_body_that_the_handler_does_not_read_is_compared,
    a_panic_is_answered,
    the_attribute_may_find_its_runtime_in_an_extension,
    a_layer_and_an_attribute_do_not_meet,
    an_attempt_out_of_sight_is_that_of_the_guard_inside,
    layers_in_nested_routers_do_not_answer_each_others_keys,
    a_layer_around_the_whole_service_guards_it,
    a_financial_router_guards_what_it_mounts,
);

const POLICY: Policy = Policy::new("api");

async fn plain(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn told(attempt: Attempt) -> String {
    format!("{} {}", attempt.number(), attempt.downstream_key("step"))
}

async fn typed(State(app): State<App>, Json(amount): Json<u64>) -> (StatusCode, String) {
    (app.run(Call::default()).await.status(), amount.to_string())
}

/// Takes no body at all.
async fn deaf(State(app): State<App>) -> Response {
    app.run(Call::default()).await
}

#[idempotent(scope = "extension", key = from_header, runtime = extension)]
async fn by_extension(Extension(app): Extension<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "api", key = from_header)]
async fn guarded_itself(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

fn routes() -> Router<App> {
    Router::new()
        .route("/things", any(plain))
        .route("/others", any(plain))
        .route("/told", post(told))
        .route("/typed", post(typed))
        .route("/deaf", post(deaf))
}

async fn service(backend: &Backend, policy: Policy) -> Service {
    Service::layered(backend, policy, routes()).start().await
}

async fn a_key_is_optional_by_default(backend: Backend) {
    let service = service(&backend, POLICY).await;
    service.post("/things").send().await.assert_fresh(201);
    service.post("/things").send().await.assert_fresh(201);
    assert_eq!(service.store().steps().claims, 0);
    let first = service.post("/things").key("k").send().await;
    first.assert_fresh(201);
    service.post("/things").key("k").send().await.assert_replay_of(&first);
    service.post("/things").key("a b").send().await.assert_problem(400, "key-invalid");
    // Who asks for no guard need not say who it is.
    service.post("/things").without("x-account").send().await.assert_fresh(201);
    service.post("/things").without("x-account").key("k").send().await.assert_problem(400, "principal-missing");
    assert_eq!(service.runs(), 4);
}

async fn a_key_may_be_required(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        routes().layer(IdempotencyLayer::new(idempotency.clone(), POLICY).required())
    });
    let service = service.start().await;
    service.post("/things").send().await.assert_problem(400, "key-missing");
    service.post("/things").key("k").send().await.assert_fresh(201);
    service.ask(Method::GET, "/things").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}

async fn only_methods_that_change_something_are_guarded(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        routes().layer(IdempotencyLayer::new(idempotency.clone(), POLICY).required())
    });
    let service = service.start().await;
    let mut runs = 0;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        for _ in 0..2 {
            // A key that is none is not even looked at.
            service.ask(method.clone(), "/things").key("a, b").send().await.assert_fresh(201);
            runs += 1;
        }
    }
    assert_eq!(service.runs(), runs);
    assert_eq!(service.store().steps().claims, 0);
}

async fn every_guarded_method_is_an_operation_of_its_own(backend: Backend) {
    let service = service(&backend, POLICY).await;
    for (number, method) in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].into_iter().enumerate() {
        let first = service.ask(method.clone(), "/things").key("k").send().await;
        first.assert_fresh(201);
        service.ask(method, "/things").key("k").send().await.assert_replay_of(&first);
        assert_eq!(service.runs(), number + 1);
    }
}

async fn a_retry_gets_the_first_answer(backend: Backend) {
    let service = Service::layered(&backend, POLICY, routes()).replicas(3).start().await;
    let first = service.post("/things?a=1").key("k").json("{}").send().await;
    first.assert_fresh(201);
    for replica in [0, 1, 2] {
        service.replica(replica).post("/things?a=1").key("\"k\"").json("{}").send().await.assert_replay_of(&first);
    }
    service.post("/others?a=1").key("k").json("{}").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}

async fn a_duplicate_in_flight_is_told_to_come_back(backend: Backend) {
    let service = service(&backend, POLICY).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/things").key("k").send());
    service.script().begun(1).await;
    service.post("/things").key("k").send().await.assert_problem(409, "in-flight");
    service.post("/things").key("k").body("other").send().await.assert_problem(422, "key-reused");
    service.script().release();
    first.await.expect("a reply").assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn a_duplicate_may_wait(backend: Backend) {
    let wait = OnConflict::Wait(Duration::from_secs(50));
    let service = service(&backend, POLICY.on_conflict(wait)).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/things").key("k").send());
    service.script().begun(1).await;
    let waiters: Vec<_> = (0..5).map(|_| tokio::spawn(service.post("/things").key("k").send())).collect();
    service.store().until("the waiters have asked", |steps| steps.claims >= 6).await;
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    for waiter in waiters {
        waiter.await.expect("a reply").assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
}

async fn errors_and_mismatches_are_those_of_the_attribute(backend: Backend) {
    let service = service(&backend, POLICY.store(StoreRule::Definitive).fingerprint(FingerprintRule::Json)).await;
    service.script().statuses(&[503, 402, 200]);
    let ask = |body: &'static str| service.post("/things").key("k").json(body);
    ask(r#"{"a":1,"b":2}"#).send().await.assert_fresh(503);
    let declined = ask(r#"{"a":1,"b":2}"#).send().await;
    declined.assert_fresh(402);
    ask(r#"{"b":2, "a":1}"#).send().await.assert_replay_of(&declined);
    ask(r#"{"a":1,"b":3}"#).send().await.assert_problem(422, "key-reused");
    ask(r#"{"a":1,"a":1}"#).send().await.assert_problem(400, "body-invalid");
    ask("{").send().await.assert_problem(400, "body-invalid");
    assert_eq!(service.runs(), 2);
}

async fn a_handler_says_its_word(backend: Backend) {
    let service = service(&backend, POLICY).await;
    service.script().answer(|run, _| match run {
        1 => (StatusCode::OK, Disposition::Release).into_response(),
        2 => (StatusCode::INTERNAL_SERVER_ERROR, Disposition::Store, "kept").into_response(),
        _ => (StatusCode::OK, Disposition::Unknown).into_response(),
    });
    service.post("/things").key("k").send().await.assert_fresh(200);
    let kept = service.post("/things").key("k").send().await;
    kept.assert_fresh(500);
    service.post("/things").key("k").send().await.assert_replay_of(&kept);
    service.post("/things").key("k2").send().await.assert_fresh(200);
    service.post("/things").key("k2").send().await.assert_problem(409, "outcome-unknown");
}

async fn a_handler_knows_its_attempt(backend: Backend) {
    let service = service(&backend, POLICY).await;
    let first = service.post("/told").key("k").send().await;
    first.assert_fresh(200);
    assert!(first.text().starts_with("1 "), "{first}");
    service.post("/told").key("k").send().await.assert_replay_of(&first);
    assert_ne!(service.post("/told").key("k2").send().await.text(), first.text());
}

async fn a_policy_chooses_the_key(backend: Backend) {
    const BY_QUERY: Policy = POLICY.key(&[KeySource::Query("token"), KeySource::Header("x-token")]);
    let service = service(&backend, BY_QUERY).await;
    let first = service.post("/things?token=1").send().await;
    first.assert_fresh(201);
    service.post("/things?token=1").send().await.assert_replay_of(&first);
    service.post("/things").header("x-token", "1").send().await.assert_problem(422, "key-reused");
    service.post("/things").key("1").send().await.assert_problem(400, "key-missing");
    assert_eq!(service.runs(), 1);
}

async fn one_space_covers_a_whole_router(backend: Backend) {
    let service = service(&backend, POLICY.key_space(KeySpace::Scope)).await;
    let first = service.post("/things").key("k").send().await;
    first.assert_fresh(201);
    service.post("/others").key("k").send().await.assert_problem(422, "key-reused");
    service.ask(Method::PUT, "/things").key("k").send().await.assert_problem(422, "key-reused");
    service.post("/things").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_refusal_by_a_layer_inside_does_not_burn_the_key(backend: Backend) {
    let service = Service::layered(&backend, POLICY, routes().layer(axum::middleware::from_fn(login))).start().await;
    assert_eq!(service.post("/things").key("k").send().await.status, 401);
    let first = service.post("/things").key("k").header("authorization", "valid").send().await;
    first.assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn a_body_that_the_handler_cannot_read_does_not_burn_the_key(backend: Backend) {
    let service = service(&backend, POLICY).await;
    let ask = |body: &'static str| service.post("/typed").key("k").json(body).send();
    for (body, status) in [("!", 400), ("", 400), ("-1", 422), ("\"1\"", 422)] {
        ask(body).await.assert_fresh(status);
        assert_eq!((service.runs(), backend.records().await), (0, 0), "`{body}`");
    }
    let first = ask("1").await;
    first.assert_fresh(201);
    ask("1").await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_body_over_the_limit_does_not_burn_the_key(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        routes().layer(IdempotencyLayer::new(idempotency.clone(), POLICY)).layer(DefaultBodyLimit::max(100))
    });
    let service = service.start().await;
    let large = "x".repeat(101);
    let pieces = large.as_bytes().chunks(10).map(bytes::Bytes::copy_from_slice).collect();
    let ask = || service.post("/things").key("k");
    for refused in [ask().body(large.clone()).send().await, ask().chunked(pieces).send().await] {
        assert_eq!((refused.status.as_u16(), refused.is_replay()), (413, false), "{refused}");
    }
    assert_eq!((service.runs(), service.store().steps().claims, backend.records().await), (0, 0, 0));
    let first = ask().body("x".repeat(100)).send().await;
    first.assert_fresh(201);
    ask().body("x".repeat(100)).send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn who_is_refused_outside_gets_no_replay(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        let layer = IdempotencyLayer::new(idempotency.clone(), POLICY);
        routes().layer(layer).layer(axum::middleware::from_fn(login))
    });
    let service = service.start().await;
    let first = service.post("/things").key("k").header("authorization", "valid").send().await;
    first.assert_fresh(201);
    let refused = service.post("/things").key("k").send().await;
    assert_eq!((refused.status.as_u16(), refused.is_replay(), refused.body.len()), (401, false, 0));
    assert_eq!(service.runs(), 1);
}

async fn login(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    if request.headers().get("authorization").is_some_and(|token| token == "valid") {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn a_body_that_the_handler_does_not_read_is_compared(backend: Backend) {
    let service = service(&backend, POLICY).await;
    let first = service.post("/deaf").key("k").body("1").send().await;
    first.assert_fresh(201);
    service.post("/deaf").key("k").body("2").send().await.assert_problem(422, "key-reused");
    service.post("/deaf").key("k").body("1").send().await.assert_replay_of(&first);
}

async fn a_panic_is_answered(backend: Backend) {
    let service = service(&backend, POLICY).await;
    service.script().answer(|run, _| {
        assert!(run != 1, "the handler panics, as it is told to");
        "done".into_response()
    });
    service.post("/things").key("k").send().await.assert_problem_for_now(500, "panicked");
    service.post("/things").key("k").send().await.assert_fresh(200);
    assert!(service.post("/things").key("k").send().await.is_replay());
}

async fn the_attribute_may_find_its_runtime_in_an_extension(backend: Backend) {
    let script = Script::new();
    let service = Service::with(&backend, |idempotency: &Idempotency| {
        let app = App { idempotency: idempotency.clone(), script: script.clone() };
        Router::new().route("/things", post(by_extension)).layer(Extension(app)).layer(Extension(idempotency.clone()))
    });
    let service = service.script(&script).start().await;
    let first = service.post("/things").key("k").send().await;
    first.assert_fresh(201);
    service.post("/things").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_layer_and_an_attribute_do_not_meet(backend: Backend) {
    // Two scopes: a guard inside a guard.
    let outer = Policy::new("outer");
    let routes = Router::new().route("/things", post(guarded_itself));
    let service = Service::layered(&backend, outer, routes).start().await;
    let first = service.post("/things").key("k").send().await;
    first.assert_fresh(201);
    service.post("/things").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
    assert_eq!(backend.records().await, 2);
}

/// Takes the attempt where the attribute does not see it.
struct Provider(Attempt);

impl<S: Send + Sync> FromRequestParts<S> for Provider {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        Attempt::from_request_parts(parts, state).await.map(Self)
    }
}

#[idempotent(scope = "api", key = from_body("/id"))]
async fn charges(State(app): State<App>, Provider(attempt): Provider, call: Call) -> Response {
    let status = app.run(call).await.status();
    (status, attempt.downstream_key("charge")).into_response()
}

async fn an_attempt_out_of_sight_is_that_of_the_guard_inside(backend: Backend) {
    let routes = Router::new().route("/charges", post(charges));
    let service = Service::layered(&backend, Policy::new("outer"), routes).start().await;
    service.script().statuses(&[503, 201]);
    // Without a key for the layer, which runs each of these by itself.
    let first = service.post("/charges").json(r#"{"id":"o-1"}"#).send().await;
    first.assert_fresh(503);
    let second = service.post("/charges").json(r#"{"id":"o-1"}"#).send().await;
    second.assert_fresh(201);
    assert_eq!(first.text(), second.text(), "the provider sees one key");
}

async fn layers_in_nested_routers_do_not_answer_each_others_keys(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        let inner = routes().layer(IdempotencyLayer::new(idempotency.clone(), POLICY));
        Router::new().nest("/a", inner.clone()).nest("/b", inner.clone()).nest("/of/{tenant}", inner)
    });
    let service = service.start().await;
    let paths = ["/a/things", "/b/things", "/of/1/things", "/of/2/things"];
    for (number, path) in paths.iter().enumerate() {
        let first = service.post(path).key("k").send().await;
        first.assert_fresh(201);
        service.post(path).key("k").send().await.assert_replay_of(&first);
        assert_eq!(service.runs(), number + 1);
    }
}

async fn a_layer_around_the_whole_service_guards_it(backend: Backend) {
    let script = Script::new();
    let service = Service::with(&backend, |idempotency: &Idempotency| {
        let app = App { idempotency: idempotency.clone(), script: script.clone() };
        let whole = IdempotencyLayer::new(idempotency.clone(), POLICY).layer(routes().with_state(app));
        Router::new().fallback_service(whole)
    });
    let service = service.script(&script).start().await;
    let first = service.post("/things?a=1").key("k").json("{}").send().await;
    first.assert_fresh(201);
    service.post("/things?a=1").key("k").json("{}").send().await.assert_replay_of(&first);
    service.post("/others?a=1").key("k").json("{}").send().await.assert_fresh(201);
    // What no route answers is an error, and frees the key.
    assert_eq!(service.post("/nowhere").key("k").send().await.status, 404);
    assert_eq!(service.post("/nowhere").key("k").send().await.status, 404);
    assert_eq!(backend.records().await, 2);
}

#[financial]
#[idempotent(scope = "money", key = from_header)]
async fn pay(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn a_financial_router_guards_what_it_mounts(backend: Backend) {
    let routes = FinancialRouter::new()
        .get("/payments", plain)
        .post("/payments", pay)
        .put("/payments/{id}", pay)
        .patch("/payments/{id}", pay)
        .delete("/payments/{id}", pay);
    let service = Service::start(&backend, Router::new().nest("/v1", routes.into_router())).await;
    let asks = [
        (Method::POST, "/v1/payments"),
        (Method::PUT, "/v1/payments/1"),
        (Method::PATCH, "/v1/payments/1"),
        (Method::DELETE, "/v1/payments/1"),
    ];
    for (number, (method, path)) in asks.into_iter().enumerate() {
        service.ask(method.clone(), path).send().await.assert_problem(400, "key-missing");
        let first = service.ask(method.clone(), path).key("k").send().await;
        first.assert_fresh(201);
        service.ask(method, path).key("k").send().await.assert_replay_of(&first);
        assert_eq!(service.runs(), number + 1);
    }
    service.ask(Method::GET, "/v1/payments").send().await.assert_fresh(201);
    service.ask(Method::GET, "/v1/payments").key("k").send().await.assert_fresh(201);
}

/// A service that can take one request at a time keeps its place for one that runs, not for one that is still sent.
#[tokio::test(start_paused = true)]
async fn a_stalled_upload_keeps_no_place_of_the_service_inside() {
    let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
    let one_at_a_time = ConcurrencyLimitLayer::new(1);
    let app = Router::new()
        .route("/things", post(async || "done"))
        .layer((IdempotencyLayer::new(idempotency, POLICY), one_at_a_time))
        // Without this a router puts its layers around each request anew.
        .with_state(());
    let gate = Gate::new();
    let stalled = Body::from_stream(futures_util::stream::once({
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok::<_, std::io::Error>("body")
        }
    }));
    let slow = tokio::spawn({
        let app = app.clone();
        async move { exchange::send(&app, exchange::post("/things", "slow", stalled)).await }
    });
    gate.reached().await;
    // Long before the upload is given up.
    let beside = exchange::send(&app, exchange::post("/things", "quick", "body"));
    let beside = tokio::time::timeout(Duration::from_secs(5), beside).await;
    assert_eq!(beside.expect("an answer meanwhile").summary(), "200 fresh");
    gate.open();
    assert_eq!(slow.await.expect("an answer").summary(), "200 fresh");
}

/// As where a layer outside cannot decompress it.
#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let idempotency = Idempotency::builder(MemoryStore::new()).shared().build();
    let guard = IdempotencyLayer::new(idempotency.clone(), POLICY);
    let app: Router = Router::new().route("/things", post(async || "done")).layer(guard);
    let pieces = [Ok("bo"), Err(std::io::Error::other("broken"))];
    let broken = Body::from_stream(futures_util::stream::iter(pieces));
    let reply = exchange::send(&app, exchange::post("/things", "k", broken)).await;
    assert_eq!(reply.summary(), "400 body-unreadable");
    assert_eq!(exchange::send(&app, exchange::post("/things", "k", "body")).await.summary(), "200 fresh");
    assert_eq!(idempotency.metrics().executed, 1);
}
