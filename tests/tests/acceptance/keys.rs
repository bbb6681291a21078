//! Keys from elsewhere than the usual header.

use axum::{
    Json, Router,
    extract::{Path, State},
    response::Response,
    routing::{post, put},
};
use http::Method;
use idem_runtime::{KeyRequest, idempotent};
use serde::Deserialize;
use tests::{
    backend::Backend,
    service::{App, Call, Service},
};

tests::on_every_store!(
    the_path_may_hold_the_key,
    a_parameter_that_the_route_does_not_have_is_the_services_mistake,
    the_query_may_hold_the_key,
    the_body_may_hold_the_key,
    a_function_may_find_the_key,
    the_first_source_that_has_a_key_wins,
    the_arguments_may_hold_the_key,
    an_argument_that_may_be_missing_is_asked_before_what_follows_it,
    a_key_is_derived_from_what_the_request_says,
    the_arguments_may_name_the_caller,
    a_key_that_is_no_header_may_be_any_text,
    who_sends_no_key_where_that_is_allowed_is_not_asked_for_a_name,
    what_is_wrong_behind_the_key_is_nothing,
);

#[idempotent(scope = "things", key = from_path("id"))]
async fn by_path(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_path("id"), missing = run)]
async fn by_path_if_there_is_one(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = any_of(from_header, from_path("id")))]
async fn by_header_or_path(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_query("token"))]
async fn by_query(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_query("token"), missing = run)]
async fn by_query_if_there_is_one(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = any_of(order.id, from_body("/user"), from_query("token")))]
async fn by_argument_or_body(State(app): State<App>, call: Parts, Json(order): Json<Order>) -> Response {
    app.run(call.of(order.number)).await
}

#[idempotent(scope = "things", key = from_body("/order/id"))]
async fn by_body(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

fn signature(request: &KeyRequest<'_>) -> Option<String> {
    let signature = request.headers.get("x-signature")?.to_str().ok()?;
    Some(format!("{} {} {}", request.method, signature, request.body.len()))
}

#[idempotent(scope = "things", key = from_fn(signature))]
async fn by_function(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = any_of(from_header, from_query("token"), from_body("/id")))]
async fn by_any(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[derive(Debug, Deserialize)]
struct Order {
    id: Option<String>,
    #[serde(default)]
    number: u64,
    #[serde(default)]
    user: String,
}

#[idempotent(scope = "things", key = order.number, fingerprint = off)]
async fn by_argument(State(app): State<App>, call: Parts, Json(order): Json<Order>) -> Response {
    app.run(call.of(order.number)).await
}

#[idempotent(scope = "things", key = any_of(order.id, from_header))]
async fn by_argument_or_header(State(app): State<App>, call: Parts, Json(order): Json<Order>) -> Response {
    app.run(call.of(order.number)).await
}

#[idempotent(scope = "carts", key = derive(cart, "checkout", order), fingerprint = off)]
async fn by_derivation(
    State(app): State<App>,
    Path(cart): Path<String>,
    call: Parts,
    Json(order): Json<serde_json::Value>,
) -> Response {
    app.run(call.of((cart.len() + order.to_string().len()) as u64)).await
}

#[idempotent(scope = "things", key = from_header, principal = order.user, fingerprint = off)]
async fn by_user(State(app): State<App>, call: Parts, Json(order): Json<Order>) -> Response {
    app.run(call.of(order.number)).await
}

/// A call, as far as it is known before its body.
struct Parts(Call);

impl Parts {
    fn of(self, number: u64) -> Call {
        Call { body: number.to_string().into(), ..self.0 }
    }
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Parts {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        Ok(Self(Call { method, uri, headers, body: bytes::Bytes::new() }))
    }
}

async fn service(backend: &Backend) -> Service {
    let routes = Router::new()
        .route("/path/{id}", put(by_path))
        .route("/misnamed/{other}", put(by_path).post(by_path_if_there_is_one))
        .route("/unnamed", put(by_path).post(by_header_or_path))
        .route("/query", post(by_query).put(by_query_if_there_is_one))
        .route("/argument-or-body", post(by_argument_or_body))
        .route("/body", post(by_body))
        .route("/function", post(by_function).put(by_function))
        .route("/any", post(by_any))
        .route("/argument", post(by_argument))
        .route("/argument-or-header", post(by_argument_or_header))
        .route("/carts/{cart}", post(by_derivation))
        .route("/user", post(by_user));
    Service::start(backend, routes).await
}

async fn the_path_may_hold_the_key(backend: Backend) {
    let service = service(&backend).await;
    let ask = |path: &str| service.ask(Method::PUT, path);
    let first = ask("/path/1").send().await;
    first.assert_fresh(201);
    ask("/path/1").key("not looked at").send().await.assert_replay_of(&first);
    ask("/path/1").body("other").send().await.assert_problem(422, "key-reused");
    ask("/path/2").send().await.assert_fresh(201);
    ask("/path/a%20b%2F%C3%A4").send().await.assert_fresh(201);
    assert!(ask("/path/a%20b%2F%C3%A4").send().await.is_replay());
    assert_eq!(service.runs(), 3);
}

/// Neither a key that the client forgot, nor a request that may run without a guard.
async fn a_parameter_that_the_route_does_not_have_is_the_services_mistake(backend: Backend) {
    let service = service(&backend).await;
    for (method, path) in [
        (Method::PUT, "/misnamed/1"),
        (Method::POST, "/misnamed/1"),
        (Method::PUT, "/unnamed"),
        (Method::POST, "/unnamed"),
    ] {
        let reply = service.ask(method.clone(), path).send().await;
        assert_eq!(reply.status, 500, "{method} {path}: {reply}");
        assert_eq!(service.runs(), 0, "{method} {path}");
    }
    // Nothing behind the first key is looked at.
    service.post("/unnamed").key("k").send().await.assert_fresh(201);
    assert!(service.post("/unnamed").key("k").send().await.is_replay());
    assert_eq!(service.runs(), 1);
    // What is wrong with the path itself is the client's.
    service.ask(Method::PUT, "/path/%ff").send().await.assert_problem(400, "key-invalid");
}

async fn the_query_may_hold_the_key(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/query?token=a%20b&x=1").send().await;
    first.assert_fresh(201);
    service.post("/query?token=a%20b&x=1").send().await.assert_replay_of(&first);
    // The same key, written in another way: a request that differs.
    service.post("/query?token=a+b&x=1").send().await.assert_problem(422, "key-reused");
    let missing = service.post("/query").send().await;
    missing.assert_problem(400, "key-missing");
    assert!(missing.text().contains("in the parameter `token` of the query, the same"), "{missing}");
    service.post("/query?x=token").send().await.assert_problem(400, "key-missing");
    service.post("/query?token=").send().await.assert_problem(400, "key-invalid");
    service.post("/query?token=1&token=2").send().await.assert_problem(400, "key-invalid");
    service.post("/query?token=1&%74oken=1").send().await.assert_problem(400, "key-invalid");
    // They would be one key: what is no text is read as one character.
    for no_text in ["%ff", "%fe", "a%ffb", "%EF%BF%BD"] {
        service.post(&format!("/query?token={no_text}")).send().await.assert_problem(400, "key-invalid");
    }
    assert_eq!(service.runs(), 1);
}

async fn the_body_may_hold_the_key(backend: Backend) {
    let service = service(&backend).await;
    let ask = |body: &'static str| service.post("/body").json(body).send();
    let first = ask(r#"{"order":{"id":"o-1"},"items":[1]}"#).await;
    first.assert_fresh(201);
    ask(r#"{"order":{"id":"o-1"},"items":[1]}"#).await.assert_replay_of(&first);
    ask(r#"{"order":{"id":"o-1"},"items":[2]}"#).await.assert_problem(422, "key-reused");
    ask(r#"{"order":{"id":17}}"#).await.assert_fresh(201);
    assert!(ask(r#"{"order":{"id":17}}"#).await.is_replay());
    for missing in [r#"{"order":{}}"#, r#"{"order":"id"}"#, "{}", "[]", r#"{"order":{"id":null}}"#] {
        let reply = ask(missing).await;
        reply.assert_problem(400, "key-missing");
        assert!(reply.text().contains("in the member `/order/id` of the JSON body, the same"), "{reply}");
    }
    for invalid in
        [r#"{"order":{"id":1.5}}"#, r#"{"order":{"id":true}}"#, r#"{"order":{"id":[]}}"#, r#"{"order":{"id":""}}"#]
    {
        ask(invalid).await.assert_problem(400, "key-invalid");
    }
    for twice in [r#"{"order":{"id":"a","id":"b"}}"#, r#"{"order":{"id":"a"},"order":{"id":"b"}}"#] {
        ask(twice).await.assert_problem(400, "body-invalid");
    }
    for no_json in ["", "{", "order"] {
        let reply = ask(no_json).await;
        reply.assert_problem(400, "body-invalid");
        assert!(reply.text().contains("read from a JSON body"), "{reply}");
    }
    assert_eq!(service.runs(), 2);
}

async fn a_function_may_find_the_key(backend: Backend) {
    let service = service(&backend).await;
    let ask = |method, body: &'static str| service.ask(method, "/function").header("x-signature", "s").body(body);
    let first = ask(Method::POST, "1").send().await;
    first.assert_fresh(201);
    ask(Method::POST, "1").send().await.assert_replay_of(&first);
    ask(Method::POST, "2").send().await.assert_problem(422, "key-reused");
    ask(Method::POST, "22").send().await.assert_fresh(201);
    ask(Method::PUT, "1").send().await.assert_fresh(201);
    let missing = service.post("/function").send().await;
    missing.assert_problem(400, "key-missing");
    assert!(missing.text().contains("needs an idempotency key, the same"), "{missing}");
    assert_eq!(service.runs(), 3);
}

async fn the_first_source_that_has_a_key_wins(backend: Backend) {
    let service = service(&backend).await;
    let body = r#"{"id":"in-body"}"#;
    let first = service.post("/any?token=in-query").key("in-header").json(body).send().await;
    first.assert_fresh(201);
    service.post("/any?token=in-query").key("in-header").json(body).send().await.assert_replay_of(&first);
    let by_query = service.post("/any?token=in-query").json(body).send().await;
    by_query.assert_fresh(201);
    service.post("/any?token=in-query").json(body).send().await.assert_replay_of(&by_query);
    let by_body = service.post("/any").json(body).send().await;
    by_body.assert_fresh(201);
    service.post("/any").json(body).send().await.assert_replay_of(&by_body);
    let keyless = service.post("/any").json("{}").send().await;
    keyless.assert_problem(400, "key-missing");
    let places = "the header `Idempotency-Key` or in the parameter `token` of the query or in the member `/id` of";
    assert!(keyless.text().contains(places), "{keyless}");
    service.post("/any?token=in-query").key("a b").json(body).send().await.assert_problem(400, "key-invalid");
    assert_eq!(service.runs(), 3);
}

async fn the_arguments_may_hold_the_key(backend: Backend) {
    let service = service(&backend).await;
    let ask = |body: &'static str| service.post("/argument").json(body).send();
    let first = ask(r#"{"number":7}"#).await;
    first.assert_fresh(201);
    ask(r#"{ "number" : 7 }"#).await.assert_replay_of(&first);
    ask(r#"{"number":8}"#).await.assert_fresh(201);
    assert_eq!(ask(r#"{"number":"7"}"#).await.status, 422);
    assert_eq!(service.runs(), 2);
}

async fn an_argument_that_may_be_missing_is_asked_before_what_follows_it(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/argument-or-header").key("h").json(r#"{"id":"a"}"#).send().await;
    first.assert_fresh(201);
    // The header comes after the argument, so another one changes nothing.
    service.post("/argument-or-header").key("other").json(r#"{"id":"a"}"#).send().await.assert_replay_of(&first);
    service.post("/argument-or-header").json(r#"{"id":"a"}"#).send().await.assert_replay_of(&first);
    service.post("/argument-or-header").key("h").json(r#"{}"#).send().await.assert_fresh(201);
    assert!(service.post("/argument-or-header").key("h").json(r#"{}"#).send().await.is_replay());
    let keyless = service.post("/argument-or-header").json(r#"{}"#).send().await;
    keyless.assert_problem(400, "key-missing");
    // What the service makes a key of it alone can tell.
    assert!(keyless.text().contains("needs an idempotency key, the same"), "{keyless}");
    service.post("/argument-or-header").json(r#"{"id":""}"#).send().await.assert_problem(400, "key-invalid");
    assert_eq!(service.runs(), 2);
}

async fn a_key_is_derived_from_what_the_request_says(backend: Backend) {
    let service = service(&backend).await;
    let ask = |path: &str, body: &'static str| service.post(path).json(body).send();
    let first = ask("/carts/1", r#"{"a":1,"b":[1,2]}"#).await;
    first.assert_fresh(201);
    ask("/carts/1", r#"{"b":[1,2],"a":1}"#).await.assert_replay_of(&first);
    ask("/carts/1", r#"{"a":1,"b":[2,1]}"#).await.assert_fresh(201);
    ask("/carts/2", r#"{"a":1,"b":[1,2]}"#).await.assert_fresh(201);
    ask("/carts/1", r#"{"a":"1","b":[1,2]}"#).await.assert_fresh(201);
    assert_eq!(service.runs(), 4);
}

async fn the_arguments_may_name_the_caller(backend: Backend) {
    let service = service(&backend).await;
    let ask =
        |user: &str| service.post("/user").without("x-account").key("k").json(format!(r#"{{"user":"{user}"}}"#)).send();
    let first = ask("ada").await;
    first.assert_fresh(201);
    ask("ada").await.assert_replay_of(&first);
    ask("bob").await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}

async fn who_sends_no_key_where_that_is_allowed_is_not_asked_for_a_name(backend: Backend) {
    let service = service(&backend).await;
    let ask = |path: &str| service.ask(Method::PUT, path);
    for _ in 0..2 {
        ask("/query").without("x-account").send().await.assert_fresh(201);
    }
    ask("/query?token=t").without("x-account").send().await.assert_problem(400, "principal-missing");
    let first = ask("/query?token=t").send().await;
    first.assert_fresh(201);
    ask("/query?token=t").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 3);
}

async fn what_is_wrong_behind_the_key_is_nothing(backend: Backend) {
    let service = service(&backend).await;
    let ask = |query: &str, body: &'static str| service.post(&format!("/argument-or-body{query}")).json(body).send();
    let first = ask("?token=", r#"{"id":"a"}"#).await;
    first.assert_fresh(201);
    ask("?token=", r#"{"id":"a"}"#).await.assert_replay_of(&first);
    // But not what is wrong before it, or instead of it.
    ask("?token=t", r#"{"user":""}"#).await.assert_problem(400, "key-invalid");
    ask("?token=", "{}").await.assert_problem(400, "key-invalid");
    ask("?token=t", "{}").await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}

async fn a_key_that_is_no_header_may_be_any_text(backend: Backend) {
    let service = service(&backend).await;
    let mut runs = 0;
    for id in ["ä", "a b", "a, b", "\\\"", "\\u0000", " ", "\\ud83d\\ude00", "'; DROP TABLE x; --", &"x".repeat(5000)]
    {
        let body = format!(r#"{{"order":{{"id":"{id}"}}}}"#);
        let first = service.post("/body").json(body.clone()).send().await;
        assert_eq!(first.status, 201, "{id}: {first}");
        first.assert_fresh(201);
        service.post("/body").json(body).send().await.assert_replay_of(&first);
        runs += 1;
        assert_eq!(service.runs(), runs);
    }
}
