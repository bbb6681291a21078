//! What HTTP, routers and neighbouring layers may do to a guarded request.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    response::{AppendHeaders, IntoResponse, Response},
    routing::{any, get, post},
};
use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use http_body_util::BodyExt;
use idem_runtime::idempotent;
use tests::{
    backend::Backend,
    client::{Client, Wire},
    service::{App, Call, Service},
};
use tower::ServiceExt;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer};

tests::on_every_store!(
    nested_routers_do_not_answer_each_others_keys,
    one_router_nested_twice_is_two_endpoints,
    a_path_is_compared_as_it_was_sent,
    a_fallback_is_guarded_too,
    a_guarded_get_is_guarded_and_its_head_is_another_operation,
    an_answer_to_head_has_no_body_and_keeps_its_length,
    a_length_that_is_told_of_a_body_that_is_not_sent_is_kept,
    a_body_in_chunks_is_the_same_body,
    an_empty_body_is_a_body_however_it_is_sent,
    http2_and_http1_meet_in_one_key,
    a_hundred_streams_of_one_connection_run_once,
    a_client_that_asks_before_it_sends_is_told_to_go_on,
    the_body_limit_is_the_routes_own,
    a_switched_off_body_limit_is_off,
    compression_outside_compresses_each_delivery,
    cors_outside_answers_for_itself_and_is_not_stored,
    a_time_out_outside_does_not_stop_the_run,
    a_panic_never_reaches_a_layer_outside,
    many_cookies_reach_the_first_client_only,
    many_headers_survive,
    requests_on_one_connection_are_apart,
    older_and_longer_ways_to_ask_meet_in_one_key,
    a_handler_may_take_the_whole_request,
    the_trailers_of_a_request_reach_the_handler,
    requests_that_a_handler_makes_of_one_are_apart,
);

#[idempotent(scope = "things", key = from_header)]
async fn things(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_header)]
async fn whole(State(app): State<App>, request: Request) -> Result<Response, StatusCode> {
    let (parts, body) = request.into_parts();
    let length = http_body::Body::size_hint(&body).exact();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| StatusCode::BAD_REQUEST)?;
    assert_eq!(length, Some(body.len() as u64), "the body that was read says how long it is");
    Ok(app.run(Call { method: parts.method, uri: parts.uri, headers: parts.headers, body }).await)
}

fn routes() -> Router<App> {
    Router::new().route("/things", any(things)).route("/things/{*rest}", any(things))
}

async fn service(backend: &Backend) -> Service {
    Service::start(backend, routes()).await
}

async fn nested_routers_do_not_answer_each_others_keys(backend: Backend) {
    let inner = Router::new().route("/charge", post(things)).route("/", post(things));
    let nested = Router::new()
        .nest("/a", inner.clone())
        .nest("/b", inner.clone())
        .nest("/deep", Router::new().nest("/a", inner.clone()))
        .nest("/of/{tenant}", inner.clone())
        .merge(inner);
    let service = Service::start(&backend, nested).await;
    let paths =
        ["/a/charge", "/b/charge", "/deep/a/charge", "/of/1/charge", "/of/2/charge", "/charge", "/a", "/b", "/"];
    let mut firsts = Vec::new();
    for path in paths {
        let first = service.post(path).key("k").send().await;
        assert_eq!(first.status, 201, "{path}: {first}");
        first.assert_fresh(201);
        firsts.push(first);
    }
    for (path, first) in paths.iter().zip(&firsts) {
        service.post(path).key("k").send().await.assert_replay_of(first);
    }
    assert_eq!(service.runs(), paths.len());
}

async fn one_router_nested_twice_is_two_endpoints(backend: Backend) {
    let leaf = Router::new().route("/", post(things));
    let service = Service::start(&backend, Router::new().nest("/x/{id}", leaf.clone()).nest("/y/{id}", leaf)).await;
    service.post("/x/1").key("k").send().await.assert_fresh(201);
    service.post("/y/1").key("k").send().await.assert_fresh(201);
    assert!(service.post("/x/1").key("k").send().await.is_replay());
}

async fn a_path_is_compared_as_it_was_sent(backend: Backend) {
    let service = service(&backend).await;
    let paths = [
        "/things/a%2Fb",
        "/things/a/b",
        "/things/a%2fb",
        "/things/%61/b",
        "/things/a//b",
        "/things/a/b/",
        "/things/%F0%9F%98%80",
    ];
    for path in paths {
        let first = service.post(path).key("k").send().await;
        assert_eq!(first.status, 201, "{path}: {first}");
        first.assert_fresh(201);
        service.post(path).key("k").send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), paths.len());
    assert_eq!(backend.records().await, paths.len());
}

async fn a_fallback_is_guarded_too(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/", get(|| async {})).fallback(things)).await;
    let first = service.post("/nowhere").key("k").send().await;
    first.assert_fresh(201);
    service.post("/nowhere").key("k").send().await.assert_replay_of(&first);
    service.post("/elsewhere").key("k").send().await.assert_fresh(201);
}

async fn a_guarded_get_is_guarded_and_its_head_is_another_operation(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/things", get(things))).await;
    let first = service.ask(Method::GET, "/things").key("k").send().await;
    first.assert_fresh(201);
    service.ask(Method::GET, "/things").key("k").send().await.assert_replay_of(&first);
    service.ask(Method::HEAD, "/things").key("k").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}

async fn an_answer_to_head_has_no_body_and_keeps_its_length(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/things", get(things))).await;
    service.script().answer(|_, _| "thirteen byte".into_response());
    let first = service.ask(Method::HEAD, "/things").key("k").send().await;
    first.assert_fresh(200);
    let replay = service.ask(Method::HEAD, "/things").key("k").send().await;
    replay.assert_replay_of(&first);
    for reply in [first, replay] {
        assert!(reply.body.is_empty());
        assert_eq!(reply.header("content-length").as_deref(), Some("13"), "{reply}");
    }
}

async fn a_length_that_is_told_of_a_body_that_is_not_sent_is_kept(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/things", get(things).head(things))).await;
    service.script().answer(|_, _| [(header::CONTENT_LENGTH, "13")].into_response());
    let first = service.ask(Method::HEAD, "/things").key("k").send().await;
    first.assert_fresh(200);
    assert_eq!(first.header("content-length").as_deref(), Some("13"), "{first}");
    service.ask(Method::HEAD, "/things").key("k").send().await.assert_replay_of(&first);
    service.script().answer(|_, _| (StatusCode::NOT_MODIFIED, [(header::CONTENT_LENGTH, "13")]).into_response());
    // hyper leaves it out over HTTP/1.1.
    let http2 = Client::http2(service.client().address());
    let first = http2.ask(Method::GET, "/things").key("k").send().await;
    assert_eq!((first.status.as_u16(), first.header("content-length").as_deref()), (304, Some("13")), "{first}");
    let replay = http2.ask(Method::GET, "/things").key("k").send().await;
    assert!(replay.is_replay());
    assert_eq!((replay.status.as_u16(), replay.header("content-length").as_deref()), (304, Some("13")), "{replay}");
}

async fn a_body_in_chunks_is_the_same_body(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/things").key("k").json(r#"{"amount":1}"#).send().await;
    first.assert_fresh(201);
    for chunks in [&["{\"amount\"", ":1}"][..], &["{", "\"amount\":", "1", "}"], &["{\"amount\":1}"]] {
        let chunks = chunks.iter().copied().map(Bytes::from).collect();
        service.post("/things").key("k").json("").chunked(chunks).send().await.assert_replay_of(&first);
    }
    let large: Vec<_> = (0..200u8).map(|byte| Bytes::from(vec![byte; 5_000])).collect();
    let first = service.post("/things").key("large").chunked(large.clone()).send().await;
    first.assert_fresh(201);
    assert_eq!(service.script().calls()[1].body, large.concat());
    service.post("/things").key("large").body(large.concat()).send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 2);
}

async fn an_empty_body_is_a_body_however_it_is_sent(backend: Backend) {
    let service = service(&backend).await;
    let head = "POST /things HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: k\r\nConnection: close\r\n";
    for framing in ["\r\n", "Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let reply = service.client().raw(format!("{head}{framing}").as_bytes()).await;
        assert!(reply.starts_with(b"HTTP/1.1 201 "), "{}", reply.escape_ascii());
    }
    assert_eq!(service.runs(), 1);
    service.post("/things").key("k").body(" ").send().await.assert_problem(422, "key-reused");
}

async fn http2_and_http1_meet_in_one_key(backend: Backend) {
    let service = service(&backend).await;
    let http2 = Client::http2(service.client().address());
    let first = http2.post("/things?a=1").key("k").json("{}").send().await;
    first.assert_fresh(201);
    assert_eq!(first.version, Version::HTTP_2);
    service.post("/things?a=1").key("k").json("{}").send().await.assert_replay_of(&first);
    http2.post("/things?a=1").key("\"k\"").json("{}").send().await.assert_replay_of(&first);
    http2.post("/things?a=1").key("k").json("[]").send().await.assert_problem(422, "key-reused");
    http2.post("/things?a=1").key("a, b").json("{}").send().await.assert_problem(400, "key-invalid");
    assert_eq!(service.runs(), 1);
}

async fn a_hundred_streams_of_one_connection_run_once(backend: Backend) {
    let service = service(&backend).await;
    let http2 = Client::http2(service.client().address());
    service.script().hold();
    let first = tokio::spawn(http2.post("/things").key("k").send());
    service.script().begun(1).await;
    let others: Vec<_> = (0..99).map(|_| tokio::spawn(http2.post("/things").key("k").send())).collect();
    for other in others {
        other.await.expect("a reply").assert_problem(409, "in-flight");
    }
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    http2.post("/things").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_client_that_asks_before_it_sends_is_told_to_go_on(backend: Backend) {
    let service = service(&backend).await;
    let head = "POST /things HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\
        Expect: 100-continue\r\n\r\n";
    for _ in 0..2 {
        let mut wire = Wire::connect(service.client().address()).await;
        wire.send(head.as_bytes()).await;
        assert_eq!(wire.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        let reply = wire.exchange(b"{}").await;
        assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
    }
    assert_eq!(service.runs(), 1);
}

async fn the_body_limit_is_the_routes_own(backend: Backend) {
    let routes = Router::new()
        .route("/small", post(things).layer(DefaultBodyLimit::max(10)))
        .route("/large", post(things).layer(DefaultBodyLimit::max(3 << 20)))
        .route("/usual", post(things));
    let service = Service::start(&backend, routes).await;
    for (path, limit) in [("/small", 10), ("/large", 3 << 20), ("/usual", 2 << 20)] {
        let over = vec![b'x'; limit + 1];
        let refused = service.post(path).key("k").body(over.clone()).send().await;
        refused.assert_problem(413, "body-too-large");
        let chunked = service.post(path).key("k").chunked(over.chunks(64 << 10).map(Bytes::copy_from_slice).collect());
        // A server that does not read a body to its end may close the connection before the client has sent it.
        if let Ok(refused) = chunked.try_send().await {
            refused.assert_problem(413, "body-too-large");
        }
        let first = service.post(path).key("k").body(vec![b'x'; limit]).send().await;
        first.assert_fresh(201);
        service.post(path).key("k").body(vec![b'x'; limit]).send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 3);
}

async fn a_switched_off_body_limit_is_off(backend: Backend) {
    let routes = Router::new().route("/things", post(things)).layer(DefaultBodyLimit::disable());
    let service = Service::start(&backend, routes).await;
    let large = Bytes::from(vec![b'x'; (2 << 20) + 1]);
    let first = service.post("/things").key("k").body(large.clone()).send().await;
    first.assert_fresh(201);
    service.post("/things").key("k").body(large.clone()).send().await.assert_replay_of(&first);
    let changed = [&large[..large.len() - 1], b"y"].concat();
    service.post("/things").key("k").body(changed).send().await.assert_problem(422, "key-reused");
    assert_eq!(service.runs(), 1);
}

async fn compression_outside_compresses_each_delivery(backend: Backend) {
    let service = Service::start(&backend, routes().layer(CompressionLayer::new())).await;
    let text = "compressible ".repeat(200);
    let answer = text.clone();
    service.script().answer(move |_, _| answer.clone().into_response());
    let zipped = service.post("/things").key("k").header("accept-encoding", "gzip").send().await;
    zipped.assert_fresh(200);
    assert_eq!(zipped.header("content-encoding").as_deref(), Some("gzip"));
    assert!(zipped.body.starts_with(&[0x1f, 0x8b]) && zipped.body.len() < text.len());
    let plain = service.post("/things").key("k").send().await;
    assert!(plain.is_replay());
    assert_eq!((plain.header("content-encoding"), plain.text()), (None, text));
    let again = service.post("/things").key("k").header("accept-encoding", "gzip").send().await;
    again.assert_replay_of(&zipped);
    assert_eq!(service.runs(), 1);
}

async fn cors_outside_answers_for_itself_and_is_not_stored(backend: Backend) {
    let cors = CorsLayer::new()
        .allow_origin([
            "https://a.example".parse().expect("an origin"),
            "https://b.example".parse().expect("an origin"),
        ])
        .allow_methods([Method::POST])
        .allow_headers(["idempotency-key".parse().expect("a name")])
        .expose_headers(["idempotent-replayed".parse().expect("a name")]);
    let service = Service::start(&backend, routes().layer(cors)).await;
    let preflight = service
        .ask(Method::OPTIONS, "/things")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "idempotency-key");
    assert_eq!(preflight.send().await.status, 200);
    assert_eq!(service.runs(), 0);
    let ask = |origin: &str| service.post("/things").key("k").header("origin", origin).send();
    let first = ask("https://a.example").await;
    first.assert_fresh(201);
    let second = ask("https://b.example").await;
    assert!(second.is_replay());
    // Each origin is told of itself, not of the first one.
    assert_eq!(first.header("access-control-allow-origin").as_deref(), Some("https://a.example"));
    assert_eq!(second.header("access-control-allow-origin").as_deref(), Some("https://b.example"));
    assert_eq!(second.header("access-control-expose-headers").as_deref(), Some("idempotent-replayed"));
    assert_eq!(second.body, first.body);
}

async fn a_time_out_outside_does_not_stop_the_run(backend: Backend) {
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(300));
    let service = Service::start(&backend, routes().layer(limit)).await;
    service.script().hold();
    let timed_out = service.post("/things").key("k").send().await;
    assert_eq!(timed_out.status, 408);
    service.script().begun(1).await;
    let beside = service.post("/things").key("k").send().await;
    assert!(beside.status == 409 || beside.status == 408, "in flight, on however slow a machine: {beside}");
    service.script().release();
    assert!(service.idempotency().drain(Duration::from_secs(30)).await.finished);
    let replay = service.post("/things").key("k").send().await;
    assert_eq!((replay.status.as_u16(), replay.is_replay()), (201, true), "{replay}");
    assert_eq!(service.runs(), 1);
    assert!(service.idempotency().metrics().detached >= 1);
}

async fn a_panic_never_reaches_a_layer_outside(backend: Backend) {
    let service = Service::start(&backend, routes().layer(CatchPanicLayer::new())).await;
    service.script().answer(|run, _| {
        assert!(run != 1, "the handler panics, as it is told to");
        "done".into_response()
    });
    service.post("/things").key("k").send().await.assert_problem_for_now(500, "panicked");
    service.post("/things").key("k").send().await.assert_fresh(200);
}

async fn many_cookies_reach_the_first_client_only(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let cookies: Vec<_> = (0..50).map(|number| (header::SET_COOKIE, format!("c{number}=1; Secure"))).collect();
        let cookies: [_; 50] = cookies.try_into().expect("fifty");
        (AppendHeaders(cookies), "done").into_response()
    });
    let first = service.post("/things").key("k").send().await;
    assert_eq!(first.headers.get_all("set-cookie").iter().count(), 50);
    let replay = service.post("/things").key("k").send().await;
    assert!(replay.is_replay());
    assert_eq!(replay.headers.get_all("set-cookie").iter().count(), 0);
}

async fn many_headers_survive(backend: Backend) {
    let service = service(&backend).await;
    service.script().answer(|_, _| {
        let mut response = "done".into_response();
        for number in 0..80 {
            let name: http::HeaderName = format!("x-header-{number}").parse().expect("a name");
            response.headers_mut().append(&name, "first".parse().expect("a value"));
            response.headers_mut().append(&name, "x".repeat(number).parse().expect("a value"));
        }
        response
    });
    // More lines than a client of HTTP/1.1 takes by default.
    let http2 = Client::http2(service.client().address());
    let first = http2.post("/things").key("k").send().await;
    first.assert_fresh(200);
    assert!(first.headers.len() > 160);
    http2.post("/things").key("k").send().await.assert_replay_of(&first);
}

async fn requests_on_one_connection_are_apart(backend: Backend) {
    let service = service(&backend).await;
    let mut wire = Wire::connect(service.client().address()).await;
    let request = |key: &str, body: &str| {
        let head = "POST /things HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\n";
        format!("{head}Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    // All of them are on their way before the first answer is.
    let pipelined = [("1", "a", "201"), ("1", "a", "201"), ("1", "b", "422"), ("a b", "a", "400"), ("2", "a", "201")];
    let together: String = pipelined.iter().map(|(key, body, _)| request(key, body)).collect();
    wire.send(together.as_bytes()).await;
    for (key, body, status) in pipelined {
        let reply = wire.exchange(b"").await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{key} {body}: {reply}");
    }
    assert_eq!(service.runs(), 2);
}

async fn older_and_longer_ways_to_ask_meet_in_one_key(backend: Backend) {
    let service = service(&backend).await;
    let headers =
        "Host: a\r\nX-Account: acct_1\r\nIdempotency-Key: k\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    for line in [
        "POST /things HTTP/1.1",
        "POST /things HTTP/1.0",
        "POST http://a/things HTTP/1.1",
        "POST http://b:80/things HTTP/1.1",
    ] {
        let reply = service.client().raw(format!("{line}\r\n{headers}").as_bytes()).await;
        assert!(reply.windows(9).any(|bytes| bytes == b"{\"run\":1}"), "`{line}`: {}", reply.escape_ascii());
    }
    assert_eq!(service.runs(), 1);
}

#[idempotent(scope = "things", key = from_header)]
async fn signed(State(app): State<App>, request: Request) -> Result<Response, StatusCode> {
    let body = request.into_body().collect().await.map_err(|_| StatusCode::BAD_REQUEST)?;
    let signature = body.trailers().and_then(|trailers| trailers.get("x-signature")).cloned();
    let headers = signature.map(|signature| (header::HeaderName::from_static("x-signature"), signature));
    let call = Call { headers: headers.into_iter().collect(), body: body.to_bytes(), ..Call::default() };
    Ok(app.run(call).await)
}

async fn the_trailers_of_a_request_reach_the_handler(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/signed", post(signed))).await;
    let client = Client::http2(service.client().address());
    let send = || {
        let trailers =
            http::HeaderMap::from_iter([(header::HeaderName::from_static("x-signature"), "s".parse().unwrap())]);
        let frames = [http_body::Frame::data(Bytes::from("body")), http_body::Frame::trailers(trailers)];
        let frames = futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>));
        client.post("/signed").key("k").body(Body::new(http_body_util::StreamBody::new(frames))).send()
    };
    let first = send().await;
    first.assert_fresh(201);
    send().await.assert_replay_of(&first);
    let calls = service.script().calls();
    assert_eq!((calls.len(), &calls[0].body[..]), (1, &b"body"[..]));
    assert_eq!(calls[0].headers["x-signature"], "s");
}

/// Each to a path of its own, though all came to one.
async fn several(State(app): State<App>, request: Request) -> String {
    let (parts, _) = request.into_parts();
    let inner = routes().with_state(app);
    let mut told = String::new();
    for path in ["/things/1/cancel", "/things/2/cancel"] {
        let mut one = Request::from_parts(parts.clone(), Body::empty());
        *one.uri_mut() = path.parse().unwrap();
        let reply = inner.clone().oneshot(one).await.unwrap();
        told += &format!("{} {} ", reply.status(), reply.headers().contains_key("idempotent-replayed"));
    }
    told
}

async fn requests_that_a_handler_makes_of_one_are_apart(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/several", post(several))).await;
    for replayed in [false, true] {
        let told = service.post("/several").key("k").send().await.text();
        assert_eq!(told, format!("201 Created {replayed} ").repeat(2));
    }
    assert_eq!(service.runs(), 2);
}

async fn a_handler_may_take_the_whole_request(backend: Backend) {
    let service = Service::start(&backend, Router::new().route("/whole", post(whole))).await;
    let chunks = vec![Bytes::from("one, "), Bytes::from("two")];
    let first = service.post("/whole?a=1").key("k").header("x-more", "1").chunked(chunks).send().await;
    first.assert_fresh(201);
    let call = &service.script().calls()[0];
    assert_eq!((&call.body[..], call.uri.query()), (&b"one, two"[..], Some("a=1")));
    assert_eq!(call.headers["x-more"], "1");
    service.post("/whole?a=1").key("k").body("one, two").send().await.assert_replay_of(&first);
    service.post("/whole?a=1").key("empty").send().await.assert_fresh(201);
    assert_eq!(service.runs(), 2);
}
