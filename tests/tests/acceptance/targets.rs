//! Whose request it is where its target was replaced on the way to the guard.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use http::{Method, StatusCode, Uri, uri::PathAndQuery};
use idem_runtime::{
    Disposition, FingerprintRule, IdempotencyLayer, KeySource, KeySpace, Operation, Policy, Principal, Settlement,
    store::Resolved,
};
use tests::{
    backend::Backend,
    service::{App, Call, Script, Service},
};
use tower::{Layer, ServiceBuilder, ServiceExt, util::MapRequestLayer};

tests::on_every_store!(
    a_target_that_is_rewritten_in_a_nested_service_keeps_its_prefix,
    what_was_replaced_can_be_settled,
    requests_that_differ_in_their_query_alone_are_apart,
    a_query_that_a_layer_takes_off_is_not_compared,
    a_key_in_a_query_that_a_layer_writes_is_found,
);

const POLICY: Policy = Policy::new("api");

async fn things(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

fn routes() -> Router<App> {
    Router::new().route("/things", any(things))
}

fn with_target(mut request: Request, target: &str) -> Request {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).unwrap());
    *request.uri_mut() = Uri::from_parts(parts).unwrap();
    request
}

/// A service for each tenant, with a layer that trims the slash behind a path after the tenant was taken off it.
async fn trimmed(backend: &Backend, policy: Policy) -> Service {
    let script = Script::new();
    let service = Service::with(backend, |idempotency| {
        let app = App { idempotency: idempotency.clone(), script: script.clone() };
        let guard = IdempotencyLayer::new(idempotency.clone(), policy);
        let trim = MapRequestLayer::new(|request: Request| {
            let target = request.uri().to_string().replace("/?", "?");
            with_target(request, &target)
        });
        Router::new().nest_service("/{tenant}", trim.layer(routes().layer(guard).with_state(app)))
    });
    service.script(&script).start().await
}

async fn a_target_that_is_rewritten_in_a_nested_service_keeps_its_prefix(backend: Backend) {
    for (key, space) in [("k1", KeySpace::Endpoint), ("k2", KeySpace::Scope)] {
        let service = trimmed(&backend, POLICY.key_space(space)).await;
        let first = service.post("/acme/things/?a=1").key(key).send().await;
        first.assert_fresh(201);
        service.post("/acme/things/?a=1").key(key).send().await.assert_replay_of(&first);
        service.post("/acme/things/?a=2").key(key).send().await.assert_problem(422, "key-reused");
        let other = service.post("/other/things/?a=1").key(key).send().await;
        match space {
            KeySpace::Scope => other.assert_problem(422, "key-reused"),
            _ => other.assert_fresh(201),
        }
    }
}

/// As the documentation of `Operation::endpoint` names it.
async fn what_was_replaced_can_be_settled(backend: Backend) {
    let service = trimmed(&backend, POLICY).await;
    service.script().answer(|_, _| (Disposition::Unknown, "who knows").into_response());
    service.post("/acme/things/?a=1").key("k").send().await.assert_fresh(200);
    let operation = Operation::new(POLICY, Principal::new("acct_1"), "k");
    let operation = operation.endpoint(&Method::POST, "/acme/things/ /things");
    let settled = service.idempotency().resolve(&operation, Settlement::executed()).await;
    assert_eq!(settled.expect("the store answers"), Resolved::Applied);
}

/// Each to a target of its own, that ends the path which all came to.
async fn several(State(app): State<App>, request: Request) -> String {
    let (parts, _) = request.into_parts();
    let guard = IdempotencyLayer::new(app.idempotency.clone(), POLICY.fingerprint(FingerprintRule::Off));
    let inner = routes().layer(guard).with_state(app);
    let mut told = String::new();
    for target in ["/things?id=1", "/things?id=2", "/things"] {
        let one = with_target(Request::from_parts(parts.clone(), Body::empty()), target);
        let reply = inner.clone().oneshot(one).await.unwrap();
        told += &format!("{} {} ", reply.status(), reply.headers().contains_key("idempotent-replayed"));
    }
    told
}

async fn requests_that_differ_in_their_query_alone_are_apart(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/api/things", post(several))).await;
    for replayed in [false, true] {
        let told = service.post("/api/things?all").key("k").send().await.text();
        assert_eq!(told, format!("201 Created {replayed} ").repeat(3));
    }
    assert_eq!(service.runs(), 3);
}

/// A signature that is another one in each retry, say.
async fn a_query_that_a_layer_takes_off_is_not_compared(backend: Backend) {
    let service = Service::with(&backend, |idempotency| {
        let unsigned = MapRequestLayer::new(|request: Request| {
            let target = request.uri().to_string();
            let unsigned =
                target.split_once("sig=").map_or(&*target, |(unsigned, _)| unsigned.trim_end_matches(['&', '?']));
            let unsigned = unsigned.to_owned();
            with_target(request, &unsigned)
        });
        let guard = IdempotencyLayer::new(idempotency.clone(), POLICY);
        let layers = ServiceBuilder::new().layer(unsigned).layer(guard);
        routes().layer(layers.clone()).nest("/nested", routes().layer(layers))
    });
    let service = service.start().await;
    for path in ["/things", "/nested/things"] {
        let first = service.post(&format!("{path}?a=1&sig=x")).key("k").send().await;
        first.assert_fresh(201);
        service.post(&format!("{path}?a=1&sig=y")).key("k").send().await.assert_replay_of(&first);
    }
    service.post("/things?a=2&sig=x").key("k").send().await.assert_problem(422, "key-reused");
    assert_eq!(service.runs(), 2);
}

async fn a_key_in_a_query_that_a_layer_writes_is_found(backend: Backend) {
    const BY_QUERY: Policy = POLICY.key(&[KeySource::Query("id")]);
    let service = Service::with(&backend, |idempotency| {
        let rewritten = MapRequestLayer::new(|request: Request| {
            let target = format!("/things?id={}", request.headers()["x-id"].to_str().unwrap());
            with_target(request, &target)
        });
        let guard = IdempotencyLayer::new(idempotency.clone(), BY_QUERY);
        routes().layer(ServiceBuilder::new().layer(rewritten).layer(guard))
    });
    let service = service.start().await;
    let ask = |id: &str| service.post("/things?id=0").header("x-id", id).send();
    let first = ask("1").await;
    first.assert_fresh(201);
    ask("1").await.assert_replay_of(&first);
    assert_eq!(ask("2").await.status, StatusCode::CREATED);
    assert_eq!(service.runs(), 2);
}
