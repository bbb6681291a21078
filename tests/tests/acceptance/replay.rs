//! A retry gets the first answer: which parts of it, from whom, and when not.

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, State},
    response::{AppendHeaders, IntoResponse, Response},
    routing::{post, put},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use idem_runtime::idempotent;
use tests::{
    backend::Backend,
    client::{Client, Reply},
    service::{App, Call, Service},
};

tests::on_every_store!(
    every_retry_gets_the_first_answer,
    a_replay_is_the_first_answer_byte_for_byte,
    what_the_answer_says_survives_and_what_one_delivery_says_does_not,
    headers_that_a_connection_header_names_are_not_kept,
    bodies_are_byte_equal_and_have_a_right_length,
    a_body_of_unknown_length_is_replayed_with_its_length,
    an_answer_that_is_passed_on_in_chunks_arrives,
    trailers_survive,
    another_replica_replays,
    a_service_that_was_started_again_replays,
    another_key_runs,
    another_endpoint_is_another_operation,
    one_key_is_one_operation_in_the_whole_scope_where_that_is_chosen,
    scopes_never_meet,
    principals_and_keys_are_not_joined,
    two_accounts_with_one_key_both_run,
    a_caller_nobody_can_name_is_refused,
    no_store_changes_nothing,
    whoever_may_no_longer_call_gets_no_replay,
    whoever_may_not_call_learns_nothing_of_keys,
    replicas_with_one_pepper_meet,
    what_is_counted,
);

#[idempotent(scope = "payments", key = from_header)]
async fn payments(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "refunds", key = from_header)]
async fn refunds(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, key_space = scope)]
async fn payments_of_one_space(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "refunds", key = from_header, key_space = scope)]
async fn refunds_of_one_space(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header)]
async fn with_login(_: LoggedIn, State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

/// A caller who is not locked out at the moment.
struct LoggedIn;

impl<S: Sync> FromRequestParts<S> for LoggedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let valid = parts.headers.get("authorization").is_some_and(|token| token == "Bearer valid");
        if valid { Ok(Self) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

fn routes() -> Router<App> {
    Router::new()
        .route("/payments", post(payments).put(payments))
        .route("/payments/{id}", put(payments))
        .route("/refunds", post(refunds))
        .route("/space/payments", post(payments_of_one_space))
        .route("/space/payments/more", post(payments_of_one_space))
        .route("/space/refunds", post(refunds_of_one_space))
        .route("/with-login", post(with_login))
}

async fn service(backend: &Backend) -> Service {
    Service::start(backend, routes()).await
}

async fn every_retry_gets_the_first_answer(backend: Backend) {
    let service = service(&backend).await;
    let ask = || service.post("/payments").key("k").json(r#"{"amount":1}"#);
    let first = ask().send().await;
    first.assert_fresh(201);
    assert_eq!(first.header("location").as_deref(), Some("/things/1"));
    for _ in 0..5 {
        ask().send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
    assert_eq!(backend.records().await, 1);
}

async fn a_replay_is_the_first_answer_byte_for_byte(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let headers = [("x-b", "2"), ("content-type", "text/plain"), ("x-a", "1"), ("etag", "\"v1\"")];
        (StatusCode::ACCEPTED, headers, "paid\r\n\r\n\0").into_response()
    });
    let request = b"POST /payments HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: k\r\n\
        Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    let first = service.client().raw(request).await;
    for _ in 0..3 {
        let retry = service.client().raw(request).await;
        let marker = b"idempotent-replayed: true\r\n";
        let at = retry.windows(marker.len()).position(|bytes| bytes == marker).expect("a marker");
        let unmarked = [&retry[..at], &retry[at + marker.len()..]].concat();
        let (first, unmarked) = (without_date(&first), without_date(&unmarked));
        assert_eq!(unmarked, first, "{} is not {}", unmarked.escape_ascii(), first.escape_ascii());
    }
    assert_eq!(service.runs(), 1);
}

/// The line that differs from one second to the next.
fn without_date(reply: &[u8]) -> Vec<u8> {
    let start = reply.windows(6).position(|bytes| bytes == b"date: ").expect("a date");
    let length = reply[start..].windows(2).position(|bytes| bytes == b"\r\n").expect("an end of the line") + 2;
    [&reply[..start], &reply[start + length..]].concat()
}

async fn what_the_answer_says_survives_and_what_one_delivery_says_does_not(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let lasting = AppendHeaders([
            ("location", HeaderValue::from_static("/things/1")),
            ("etag", HeaderValue::from_static("W/\"v1\"")),
            ("x-name", HeaderValue::from_bytes(b"J\xe4\xff\x80").expect("a value")),
            ("link", HeaderValue::from_static("</a>; rel=next")),
            ("x-between", HeaderValue::from_static("")),
            ("link", HeaderValue::from_static("</b>; rel=prev")),
            ("vary", HeaderValue::from_static("accept")),
            ("vary", HeaderValue::from_static("accept-language")),
            ("www-authenticate", HeaderValue::from_static("Basic")),
            ("cache-control", HeaderValue::from_static("private")),
        ]);
        let passing = AppendHeaders([
            ("set-cookie", "session=1; HttpOnly"),
            ("set-cookie", "csrf=2"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("x-request-id", "request-1"),
            ("traceparent", "00-1-2-01"),
            ("b3", "1-2-1"),
            ("x-b3-traceid", "1"),
            ("uber-trace-id", "1:2:0:1"),
            ("server-timing", "db;dur=5"),
        ]);
        (StatusCode::CREATED, lasting, passing, "made").into_response()
    });
    let first = service.post("/payments").key("k").send().await;
    first.assert_fresh(201);
    assert_eq!(first.headers.get_all("set-cookie").iter().count(), 2, "the first client gets it all: {first}");
    assert_eq!(first.header("x-request-id").as_deref(), Some("request-1"));

    let replay = service.post("/payments").key("k").send().await;
    assert!(replay.is_replay());
    let values = |name| replay.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    assert_eq!(values("link"), [&b"</a>; rel=next"[..], b"</b>; rel=prev"]);
    assert_eq!(values("vary"), [&b"accept"[..], b"accept-language"]);
    assert_eq!(values("x-name"), [b"J\xe4\xff\x80"]);
    assert_eq!(values("x-between"), [b""]);
    for name in ["location", "etag", "www-authenticate", "cache-control", "content-type", "content-length"] {
        assert_eq!(values(name), first.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>());
    }
    for name in [
        "set-cookie",
        "connection",
        "x-request-id",
        "traceparent",
        "b3",
        "x-b3-traceid",
        "uber-trace-id",
        "server-timing",
    ] {
        assert!(!replay.headers.contains_key(name), "`{name}` is of the first delivery: {replay}");
    }
    assert!(!replay.header("date").is_some_and(|date| date.contains("1970")), "{replay}");
    assert_eq!(replay.body, first.body);
}

async fn headers_that_a_connection_header_names_are_not_kept(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let headers = [("connection", "X-Hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-stays", "1")];
        (headers, "done").into_response()
    });
    service.post("/payments").key("k").send().await.assert_fresh(200);
    let replay = service.post("/payments").key("k").send().await;
    assert!(replay.is_replay());
    for name in ["connection", "x-hop", "keep-alive"] {
        assert!(!replay.headers.contains_key(name), "{replay}");
    }
    assert_eq!(replay.header("x-stays").as_deref(), Some("1"));
}

async fn bodies_are_byte_equal_and_have_a_right_length(backend: Backend) {
    let service = service(&backend).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let bodies: [(u16, Vec<u8>, Option<usize>); 9] = [
        (200, all_bytes.repeat(5), Some(1280)),
        (200, Vec::new(), Some(0)),
        (201, b"\0".to_vec(), Some(1)),
        (202, b"\xff\xfe not UTF-8".to_vec(), Some(12)),
        (204, Vec::new(), None),
        (205, Vec::new(), Some(0)),
        (303, Vec::new(), Some(0)),
        (303, b"see there".to_vec(), Some(9)),
        (304, Vec::new(), None),
    ];
    for (number, (status, body, length)) in bodies.into_iter().enumerate() {
        let answer = body.clone();
        service.script().answer(move |_, _| {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("location", "/there")], answer.clone()).into_response()
        });
        let key = number.to_string();
        let first = service.post("/payments").key(&key).send().await;
        first.assert_fresh(status);
        let replay = service.post("/payments").key(&key).send().await;
        replay.assert_replay_of(&first);
        for reply in [first, replay] {
            assert_eq!(reply.body, body);
            assert_eq!(reply.header("content-length"), length.map(|length| length.to_string()), "{reply}");
        }
    }
    assert_eq!(service.runs(), 9);
}

async fn a_body_of_unknown_length_is_replayed_with_its_length(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let pieces = ["one", "", "two", "three"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        Body::from_stream(futures_util::stream::iter(pieces)).into_response()
    });
    let first = service.post("/payments").key("k").send().await;
    first.assert_fresh(200);
    assert_eq!(first.text(), "onetwothree");
    let replay = service.post("/payments").key("k").send().await;
    replay.assert_replay_of(&first);
    assert_eq!(replay.header("content-length").as_deref(), Some("11"));
}

/// As a handler answers that passes on the headers of another server.
async fn an_answer_that_is_passed_on_in_chunks_arrives(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let pieces = ["one", "two"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        ([("transfer-encoding", "chunked")], Body::from_stream(futures_util::stream::iter(pieces))).into_response()
    });
    let first = service.post("/payments").key("k").send().await;
    first.assert_fresh(200);
    assert_eq!((first.text().as_str(), first.header("content-length").as_deref()), ("onetwo", Some("6")));
    service.post("/payments").key("k").send().await.assert_replay_of(&first);
}

async fn trailers_survive(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let mut trailers = HeaderMap::new();
        trailers.append("x-digest", HeaderValue::from_static("sha"));
        trailers.append("x-digest", HeaderValue::from_bytes(b"\xe4").expect("a value"));
        let frames = [http_body::Frame::data(Bytes::from("body")), http_body::Frame::trailers(trailers)];
        let frames = futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>));
        // HTTP/1.1 sends only those that it names.
        ([("trailer", "x-digest")], Body::new(http_body_util::StreamBody::new(frames))).into_response()
    });
    for (client, key) in [(Client::http2(service.client().address()), "two"), (service.client().clone(), "one")] {
        let send = || client.post("/payments").header("te", "trailers").key(key).send();
        let first = send().await;
        first.assert_fresh(200);
        assert_eq!(first.trailers.as_ref().map(|trailers| trailers.get_all("x-digest").iter().count()), Some(2));
        send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 2);
}

async fn another_replica_replays(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(3).start().await;
    let first = service.post("/payments").key("k").body("{}").send().await;
    first.assert_fresh(201);
    for replica in [1, 2, 0] {
        service.replica(replica).post("/payments").key("k").body("{}").send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
}

async fn a_service_that_was_started_again_replays(backend: Backend) {
    let before = service(&backend).await;
    let script = before.script().clone();
    let first = before.post("/payments").key("k").body("{}").send().await;
    first.assert_fresh(201);
    before.stop().await;
    let after = Service::of(&backend, routes()).script(&script).start().await;
    after.post("/payments").key("k").body("{}").send().await.assert_replay_of(&first);
    assert_eq!(script.runs(), 1);
}

async fn another_key_runs(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/payments").key("k").body("{}").send().await;
    let second = service.post("/payments").key("k2").body("{}").send().await;
    second.assert_fresh(201);
    assert_ne!(first.body, second.body);
    service.post("/payments").key("k").body("{}").send().await.assert_replay_of(&first);
    service.post("/payments").key("k2").body("{}").send().await.assert_replay_of(&second);
    assert_eq!(service.runs(), 2);
}

async fn another_endpoint_is_another_operation(backend: Backend) {
    let service = service(&backend).await;
    let asks = [
        (Method::POST, "/payments"),
        (Method::PUT, "/payments"),
        (Method::PUT, "/payments/1"),
        (Method::PUT, "/payments/2"),
    ];
    let mut firsts = Vec::new();
    for (method, path) in &asks {
        let first = service.ask(method.clone(), path).key("k").send().await;
        first.assert_fresh(201);
        firsts.push(first);
    }
    for ((method, path), first) in asks.iter().zip(&firsts) {
        service.ask(method.clone(), path).key("k").send().await.assert_replay_of(first);
    }
    assert_eq!(service.runs(), asks.len());
}

async fn one_key_is_one_operation_in_the_whole_scope_where_that_is_chosen(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/space/payments").key("k").send().await;
    first.assert_fresh(201);
    service.post("/space/payments/more").key("k").send().await.assert_problem(422, "key-reused");
    service.post("/space/payments").key("k").send().await.assert_replay_of(&first);
    service.post("/space/payments/more").key("k2").send().await.assert_fresh(201);
    service.post("/space/payments").key("k2").send().await.assert_problem(422, "key-reused");
    assert_eq!(service.runs(), 2);
}

async fn scopes_never_meet(backend: Backend) {
    let service = service(&backend).await;
    let mut firsts = Vec::new();
    let paths = ["/payments", "/refunds", "/space/payments", "/space/refunds"];
    for path in paths {
        let first = service.post(path).key("k").send().await;
        first.assert_fresh(201);
        firsts.push(first);
    }
    for (path, first) in paths.iter().zip(&firsts) {
        service.post(path).key("k").send().await.assert_replay_of(first);
    }
    assert_eq!(service.runs(), paths.len());
}

async fn principals_and_keys_are_not_joined(backend: Backend) {
    let service = service(&backend).await;
    let callers = [("a:b", "c"), ("a", "b:c"), ("a:b:c", "a"), ("a", "a:b:c"), ("ab", "c"), ("a", "bc")];
    let mut firsts = Vec::new();
    for (account, key) in callers {
        let first = service.post("/space/payments").account(account).key(key).send().await;
        first.assert_fresh(201);
        firsts.push(first);
    }
    for ((account, key), first) in callers.iter().zip(&firsts) {
        service.post("/space/payments").account(account).key(key).send().await.assert_replay_of(first);
    }
    assert_eq!(service.runs(), callers.len());
}

async fn two_accounts_with_one_key_both_run(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, call| call.body.clone().into_response());
    let ask = |account: &str| service.post("/payments").account(account).key("k").body(format!("of {account}"));
    let replies: [Reply; 2] = [ask("acct_1").send().await, ask("acct_2").send().await];
    for (reply, account) in replies.iter().zip(["acct_1", "acct_2"]) {
        reply.assert_fresh(200);
        assert_eq!(reply.text(), format!("of {account}"));
        ask(account).send().await.assert_replay_of(reply);
    }
    // Not even whether the other one has used the key can be told: this is a mismatch of one's own request only.
    service.post("/payments").account("acct_3").key("k").body("of acct_1").send().await.assert_fresh(200);
    assert_eq!(service.runs(), 3);
}

async fn a_caller_nobody_can_name_is_refused(backend: Backend) {
    let service = service(&backend).await;
    service.post("/payments").without("x-account").key("k").send().await.assert_problem(400, "principal-missing");
    service.post("/payments").account("").key("k").send().await.assert_problem(400, "principal-missing");
    let twice = service.post("/payments").header("x-account", "acct_2").key("k").send().await;
    twice.assert_problem(400, "principal-missing");
    assert!(twice.text().contains("more than one line"), "{twice}");
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
}

async fn no_store_changes_nothing(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|run, _| {
        let name: HeaderName = header::CACHE_CONTROL;
        (StatusCode::CREATED, [(name, "no-store, max-age=0"), (header::EXPIRES, "0")], run.to_string()).into_response()
    });
    let first = service.post("/payments").key("k").header("cache-control", "no-cache, no-store").send().await;
    first.assert_fresh(201);
    for _ in 0..3 {
        service.post("/payments").key("k").header("pragma", "no-cache").send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
}

async fn whoever_may_no_longer_call_gets_no_replay(backend: Backend) {
    let service = service(&backend).await;
    let ask = |token: &str| service.post("/with-login").key("k").header("authorization", token);
    let first = ask("Bearer valid").send().await;
    first.assert_fresh(201);
    let claims = service.store().steps().claims;
    let refused = ask("Bearer revoked").send().await;
    assert_eq!(refused.status, 401);
    assert!(refused.body.is_empty(), "{refused}");
    assert_eq!(service.store().steps().claims, claims, "the store was not asked");
    ask("Bearer valid").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn whoever_may_not_call_learns_nothing_of_keys(backend: Backend) {
    let service = service(&backend).await;
    for ask in [
        service.post("/with-login"),
        service.post("/with-login").key("a, b"),
        service.post("/with-login").key("k").without("x-account"),
    ] {
        assert_eq!(ask.send().await.status, 401);
    }
    assert_eq!(service.store().steps().claims, 0);
}

async fn replicas_with_one_pepper_meet(backend: Backend) {
    let with = async |pepper: &'static [u8]| {
        let service = Service::of(&backend, routes())
            .runtime(move |builder| builder.principal_from_header("x-account").pepper(pepper));
        service.start().await
    };
    let (one, two, other) = (with(b"secret").await, with(b"secret").await, with(b"another").await);
    let first = one.post("/payments").key("k").send().await;
    first.assert_fresh(201);
    two.post("/payments").key("k").send().await.assert_replay_of(&first);
    other.post("/payments").key("k").send().await.assert_fresh(201);
    service(&backend).await.post("/payments").key("k").send().await.assert_fresh(201);
    assert_eq!(backend.records().await, 3);
}

async fn what_is_counted(backend: Backend) {
    let service = service(&backend).await;
    let ask = |body: &'static str| service.post("/payments").key("k").body(body);
    for body in ["1", "1", "1", "2"] {
        ask(body).send().await;
    }
    let metrics = service.idempotency().metrics();
    assert_eq!((metrics.executed, metrics.replayed, metrics.mismatches), (1, 2, 1));
    assert_eq!((metrics.conflicts, metrics.in_flight, metrics.unrecorded, metrics.store_errors), (0, 0, 0, 0));
    // A claim for each, and one completion: nothing else is asked of the store.
    let steps = service.store().steps();
    assert_eq!((steps.claims, steps.completions, steps.renewals, steps.releases), (4, 1, 0, 0));
}
