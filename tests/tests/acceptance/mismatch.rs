//! One key, two requests: what makes them two, and what does not.

use axum::{Router, extract::State, response::Response, routing::post};
use http::Method;
use idem_runtime::{
    Fingerprint, FingerprintRule, IdempotencyLayer, KeyRequest, KeySource, KeySpace, Policy, idempotent,
};
use tests::{
    backend::Backend,
    client::Ask,
    service::{App, Call, Service},
};

tests::on_every_store!(
    another_body_is_refused,
    another_body_is_refused_while_the_first_is_in_flight,
    another_body_is_refused_at_once_where_duplicates_wait,
    another_query_or_content_type_is_refused,
    a_lone_question_mark_is_no_query,
    headers_on_the_way_do_not_count,
    a_new_token_of_the_same_account_does_not_count,
    a_key_that_was_released_may_be_used_for_another_request,
    exact_bytes_count_by_default,
    json_is_compared_by_what_it_says,
    numbers_are_compared_exactly,
    a_duplicate_member_is_refused,
    what_is_not_json_is_refused_where_json_is_compared,
    json_that_is_deep_or_vast_is_compared_or_refused,
    only_the_chosen_fields_are_compared,
    a_field_that_is_missing_is_not_one_that_is_null,
    where_nothing_is_compared_any_request_gets_the_first_answer,
    where_nothing_is_compared_endpoints_of_one_space_still_differ,
    what_a_function_leaves_out_may_differ,
    what_a_function_cannot_read_is_refused_and_burns_no_key,
    a_function_in_one_space_still_tells_endpoints_apart,
);

#[idempotent(scope = "payments", key = from_header)]
async fn bytes(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, on_conflict = wait("50s"))]
async fn patient(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, fingerprint = json)]
async fn json(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, fingerprint = fields("/amount", "/to/name", "/lines/0"))]
async fn fields(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "payments", key = from_header, fingerprint = off)]
async fn off(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "one-space", key = from_header, fingerprint = off, key_space = scope)]
async fn off_in_one_space(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

/// The parts of a multipart body, without the boundary between them.
fn parts(request: &KeyRequest<'_>) -> Option<Fingerprint> {
    let (_, boundary) = request.headers.get("content-type")?.to_str().ok()?.split_once("boundary=")?;
    let body = str::from_utf8(request.body).ok()?;
    Fingerprint::of_json(&body.split(&format!("--{boundary}")).collect::<Vec<_>>()).ok()
}

#[idempotent(scope = "forms", key = from_header, financial, fingerprint = from_fn(parts))]
async fn form(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "form-space", key = from_header, key_space = scope, fingerprint = from_fn(parts))]
async fn form_in_one_space(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn plain(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

const FORMS: Policy =
    Policy::new("forms").key(&[KeySource::DEFAULT]).fingerprint(FingerprintRule::Function(parts)).validate();

/// A function as the attribute has it, and as a layer has it, with the routes that tell the two apart.
async fn forms(backend: &Backend) -> Service {
    let service = Service::with(backend, |idempotency| {
        let layer = |policy| IdempotencyLayer::new(idempotency.clone(), policy);
        Router::new()
            .route("/attribute", post(form))
            .route("/layer", post(plain).layer(layer(FORMS)))
            .route("/attribute/space/a", post(form_in_one_space))
            .route("/attribute/space/b", post(form_in_one_space))
            .route("/layer/space/a", post(plain).layer(layer(FORMS.key_space(KeySpace::Scope))))
            .route("/layer/space/b", post(plain).layer(layer(FORMS.key_space(KeySpace::Scope))))
    });
    service.start().await
}

fn multipart(ask: Ask, boundary: &str, amount: u32) -> Ask {
    let part = |name: &str, value: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = format!("{}{}--{boundary}--\r\n", part("amount", &amount.to_string()), part("currency", "usd"));
    ask.header("content-type", format!("multipart/form-data; boundary={boundary}")).body(body)
}

fn routes() -> Router<App> {
    Router::new()
        .route("/bytes", post(bytes))
        .route("/patient", post(patient))
        .route("/json", post(json))
        .route("/fields", post(fields))
        .route("/off", post(off))
        .route("/space/a", post(off_in_one_space))
        .route("/space/b", post(off_in_one_space).put(off_in_one_space))
}

async fn service(backend: &Backend) -> Service {
    Service::start(backend, routes()).await
}

async fn another_body_is_refused(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    let ask = |replica: usize, body: &'static str| service.replica(replica).post("/bytes").key("k").json(body).send();
    let first = ask(0, r#"{"amount":1}"#).await;
    first.assert_fresh(201);
    for (number, body) in
        [r#"{"amount":2}"#, "", " ", r#"{"amount":1} "#, r#"{"amount":1}{"amount":1}"#].into_iter().enumerate()
    {
        ask(number % 2, body).await.assert_problem(422, "key-reused");
    }
    ask(0, r#"{"amount":1}"#).await.assert_replay_of(&first);
    ask(1, r#"{"amount":1}"#).await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn another_body_is_refused_while_the_first_is_in_flight(backend: Backend) {
    let service = Service::of(&backend, routes()).replicas(2).start().await;
    service.script().hold();
    let first = tokio::spawn(service.post("/bytes").key("k").body("1").send());
    service.script().begun(1).await;
    for replica in [0, 1] {
        service.replica(replica).post("/bytes").key("k").body("2").send().await.assert_problem(422, "key-reused");
        service.replica(replica).post("/bytes").key("k").body("1").send().await.assert_problem(409, "in-flight");
    }
    service.script().release();
    let first = first.await.expect("a reply");
    first.assert_fresh(201);
    service.post("/bytes").key("k").body("2").send().await.assert_problem(422, "key-reused");
    service.post("/bytes").key("k").body("1").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn another_body_is_refused_at_once_where_duplicates_wait(backend: Backend) {
    let service = service(&backend).await;
    service.script().hold();
    let first = tokio::spawn(service.post("/patient").key("k").body("1").send());
    service.script().begun(1).await;
    // The first is held for as long as this takes: a mismatch that waited would wait for ever.
    service.post("/patient").key("k").body("2").send().await.assert_problem(422, "key-reused");
    service.script().release();
    first.await.expect("a reply").assert_fresh(201);
    assert_eq!(service.runs(), 1);
}

async fn another_query_or_content_type_is_refused(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/bytes?a=1&b=2").key("k").json("{}").send().await;
    first.assert_fresh(201);
    for path in ["/bytes", "/bytes?a=1", "/bytes?b=2&a=1", "/bytes?a=1&b=2&"] {
        service.post(path).key("k").json("{}").send().await.assert_problem(422, "key-reused");
    }
    service.post("/bytes?a=1&b=2").key("k").body("{}").send().await.assert_problem(422, "key-reused");
    let text = service.post("/bytes?a=1&b=2").key("k").header("content-type", "text/plain").body("{}");
    text.send().await.assert_problem(422, "key-reused");
    service.post("/bytes?a=1&b=2").key("k").json("{}").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_lone_question_mark_is_no_query(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/bytes").key("k").send().await;
    service.post("/bytes?").key("k").send().await.assert_replay_of(&first);
}

async fn headers_on_the_way_do_not_count(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/bytes").key("k").header("user-agent", "a/1").body("{}").send().await;
    first.assert_fresh(201);
    for (name, value) in [
        ("user-agent", "b/2"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "another"),
        ("x-forwarded-for", "10.0.0.1"),
        ("via", "1.1 proxy"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("cookie", "session=2"),
        ("origin", "https://example.com"),
        ("cache-control", "no-cache"),
    ] {
        service.post("/bytes").key("k").header(name, value).body("{}").send().await.assert_replay_of(&first);
    }
    assert_eq!(service.runs(), 1);
}

async fn a_new_token_of_the_same_account_does_not_count(backend: Backend) {
    // As a service does that knows whose token it is: `NAME-NUMBER` here.
    let service = Service::of(&backend, routes())
        .runtime(|builder| {
            builder.principal_from_fn(|parts| {
                let token = parts.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
                Some(token.split_once('-')?.0.to_owned())
            })
        })
        .start()
        .await;
    let ask =
        |token: &str| service.post("/bytes").key("k").header("authorization", format!("Bearer {token}")).body("{}");
    let first = ask("ada-1").send().await;
    first.assert_fresh(201);
    ask("ada-2").send().await.assert_replay_of(&first);
    ask("bob-1").send().await.assert_fresh(201);
    ask("nobody").send().await.assert_problem(400, "principal-missing");
    // An empty name is nobody's.
    ask("-1").send().await.assert_problem(400, "principal-missing");
    assert_eq!(service.runs(), 2);
}

async fn a_key_that_was_released_may_be_used_for_another_request(backend: Backend) {
    let service = service(&backend).await;
    service.script().statuses(&[402, 201]);
    service.post("/bytes").key("k").body("card 1").send().await.assert_fresh(402);
    let second = service.post("/bytes").key("k").body("card 2").send().await;
    second.assert_fresh(201);
    service.post("/bytes").key("k").body("card 2").send().await.assert_replay_of(&second);
    service.post("/bytes").key("k").body("card 1").send().await.assert_problem(422, "key-reused");
}

async fn exact_bytes_count_by_default(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/bytes").key("k").json(r#"{"a":1,"b":2}"#).send().await;
    first.assert_fresh(201);
    for body in [r#"{"b":2,"a":1}"#, r#"{"a": 1,"b":2}"#, "{\"a\":1,\"b\":2}\n"] {
        service.post("/bytes").key("k").json(body).send().await.assert_problem(422, "key-reused");
    }
    assert_eq!(service.runs(), 1);
}

/// Sends the first body, then the others with the same key, and says for each whether it was replayed or a mismatch.
async fn compare(service: &Service, path: &str, key: &str, first: &'static str, others: &[(&'static str, bool)]) {
    let answer = service.post(path).key(key).json(first).send().await;
    answer.assert_fresh(201);
    for (body, same) in others {
        let reply = service.post(path).key(key).json(*body).send().await;
        if *same {
            assert_eq!(reply.status, 201, "`{body}` says what `{first}` says: {reply}");
            reply.assert_replay_of(&answer);
        } else {
            assert_eq!(reply.status, 422, "`{body}` is another request than `{first}`: {reply}");
            reply.assert_problem(422, "key-reused");
        }
    }
    service.post(path).key(key).json(first).send().await.assert_replay_of(&answer);
}

async fn json_is_compared_by_what_it_says(backend: Backend) {
    let service = service(&backend).await;
    compare(
        &service,
        "/json",
        "k",
        r#"{"a":{"x":[1,2],"y":"z"},"b":null}"#,
        &[
            (r#"{"b":null,"a":{"y":"z","x":[1,2]}}"#, true),
            ("\t{ \"a\" : { \"x\" : [ 1 , 2 ] ,\r\n \"y\" : \"z\" } , \"b\" : null }\n", true),
            (r#"{"a":{"x":[1,2],"\u0079":"\u007a"},"b":null}"#, true),
            (r#"{"a":{"x":[2,1],"y":"z"},"b":null}"#, false),
            (r#"{"a":{"x":[1,2],"y":"z"}}"#, false),
            (r#"{"a":{"x":[1,2],"y":"Z"},"b":null}"#, false),
            (r#"{"a":{"x":[1,2],"y":"z"},"b":false}"#, false),
            (r#"{"a":{"x":["1",2],"y":"z"},"b":null}"#, false),
        ],
    )
    .await;
    assert_eq!(service.runs(), 1);
}

async fn numbers_are_compared_exactly(backend: Backend) {
    let service = service(&backend).await;
    compare(
        &service,
        "/json",
        "big",
        r#"{"amount":9007199254740993}"#,
        &[
            (r#"{"amount":9007199254740992}"#, false),
            (r#"{"amount":9007199254740994}"#, false),
            (r#"{"amount":9007199254740993.0}"#, true),
            (r#"{"amount":"9007199254740993"}"#, false),
        ],
    )
    .await;
    compare(
        &service,
        "/json",
        "huge",
        r#"[123456789012345678901234567890123456789012345678901]"#,
        &[
            (r#"[123456789012345678901234567890123456789012345678902]"#, false),
            (r#"[123456789012345678901234567890123456789012345678901.00]"#, true),
        ],
    )
    .await;
    compare(
        &service,
        "/json",
        "decimal",
        r#"[0.1]"#,
        &[
            (r#"[0.10]"#, true),
            (r#"[1e-1]"#, true),
            (r#"[0.1000000000000000055511151231257827]"#, false),
            (r#"[0.2]"#, false),
        ],
    )
    .await;
}

async fn a_duplicate_member_is_refused(backend: Backend) {
    let service = service(&backend).await;
    for body in [
        r#"{"amount":1,"amount":2}"#,
        r#"{"amount":1,"amount":1}"#,
        r#"{"amount":1,"\u0061mount":1}"#,
        r#"[{"a":{"b":1,"b":2}}]"#,
    ] {
        let reply = service.post("/json").key("k").json(body).send().await;
        assert_eq!(reply.status, 400, "`{body}`: {reply}");
        reply.assert_problem(400, "body-invalid");
    }
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
    service.post("/json").key("k").json(r#"{"amount":1}"#).send().await.assert_fresh(201);
}

async fn what_is_not_json_is_refused_where_json_is_compared(backend: Backend) {
    let service = service(&backend).await;
    for body in ["", "{", "nul", "{\"a\":}", "{} {}", "\u{feff}{}", "[01]", "'a'"] {
        let reply = service.post("/json").key("k").json(body).send().await;
        assert_eq!(reply.status, 400, "`{body}`: {reply}");
        reply.assert_problem(400, "body-invalid");
    }
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
}

async fn json_that_is_deep_or_vast_is_compared_or_refused(backend: Backend) {
    let service = service(&backend).await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let first = service.post("/json").key("deep").json(deep(100)).send().await;
    first.assert_fresh(201);
    service.post("/json").key("deep").json(deep(100)).send().await.assert_replay_of(&first);
    service.post("/json").key("deep").json(deep(101)).send().await.assert_problem(422, "key-reused");
    for depth in [1_000, 500_000] {
        service.post("/json").key("deeper").json(deep(depth)).send().await.assert_problem(400, "body-invalid");
        service.post("/json").key("deeper").json("[".repeat(depth)).send().await.assert_problem(400, "body-invalid");
    }
    // Compared without ever being written out.
    compare(
        &service,
        "/json",
        "vast",
        "[1e999999999]",
        &[("[10e999999998]", true), ("[1e999999998]", false), ("[1e-999999999]", false)],
    )
    .await;
    let many = |last: usize| format!("[{}{last}]", "0,".repeat(100_000));
    let first = service.post("/json").key("many").json(many(1)).send().await;
    first.assert_fresh(201);
    service.post("/json").key("many").json(format!(" {}", many(1))).send().await.assert_replay_of(&first);
    service.post("/json").key("many").json(many(2)).send().await.assert_problem(422, "key-reused");
}

async fn only_the_chosen_fields_are_compared(backend: Backend) {
    let service = service(&backend).await;
    compare(
        &service,
        "/fields",
        "k",
        r#"{"amount":1,"to":{"name":"a","note":"x"},"lines":[{"id":1},{"id":2}],"at":1}"#,
        &[
            (r#"{"amount":1,"to":{"name":"a","note":"y"},"lines":[{"id":1},{"id":3}],"at":2}"#, true),
            (r#"{"lines":[{"id":1}],"to":{"name":"a"},"amount":1.0}"#, true),
            (r#"{"amount":2,"to":{"name":"a"},"lines":[{"id":1}]}"#, false),
            (r#"{"amount":1,"to":{"name":"b"},"lines":[{"id":1}]}"#, false),
            (r#"{"amount":1,"to":{"name":"a"},"lines":[{"id":2}]}"#, false),
            (r#"{"amount":1,"to":{"name":"a"}}"#, false),
            (r#"{}"#, false),
        ],
    )
    .await;
    // A retry behind a proxy that adds a parameter is the same request by its fields.
    service.post("/fields?utm=1").key("q").json(r#"{"amount":1}"#).send().await.assert_fresh(201);
    assert!(service.post("/fields").key("q").json(r#"{"amount":1}"#).send().await.is_replay());
}

async fn a_field_that_is_missing_is_not_one_that_is_null(backend: Backend) {
    let service = service(&backend).await;
    compare(&service, "/fields", "k", r#"{"amount":null}"#, &[(r#"{}"#, false), (r#"{"amount":0}"#, false)]).await;
    compare(&service, "/fields", "k2", r#"{}"#, &[(r#"{"amount":null}"#, false), (r#"{"other":1}"#, true)]).await;
}

async fn where_nothing_is_compared_any_request_gets_the_first_answer(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/off").key("k").json("{}").send().await;
    first.assert_fresh(201);
    service.post("/off?page=2").key("k").body("anything").send().await.assert_replay_of(&first);
    service.post("/off").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn where_nothing_is_compared_endpoints_of_one_space_still_differ(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/space/a").key("k").send().await;
    service.post("/space/a").key("k").body("other").send().await.assert_replay_of(&first);
    service.post("/space/b").key("k").send().await.assert_problem(422, "key-reused");
    service.post("/space/b").key("k2").send().await.assert_fresh(201);
    service.ask(Method::PUT, "/space/b").key("k2").send().await.assert_problem(422, "key-reused");
    assert_eq!(service.runs(), 2);
}

async fn what_a_function_leaves_out_may_differ(backend: Backend) {
    let service = forms(&backend).await;
    for path in ["/attribute", "/layer"] {
        let runs = service.runs();
        let ask = |boundary: &str, amount| multipart(service.post(path).key("k"), boundary, amount).send();
        let first = ask("----first", 1999).await;
        first.assert_fresh(201);
        ask("----second", 1999).await.assert_replay_of(&first);
        ask("----second", 2000).await.assert_problem(422, "key-reused");
        ask("----first", 2000).await.assert_problem(422, "key-reused");
        assert_eq!(service.runs(), runs + 1);
    }
}

async fn what_a_function_cannot_read_is_refused_and_burns_no_key(backend: Backend) {
    let service = forms(&backend).await;
    for path in ["/attribute", "/layer"] {
        let runs = service.runs();
        service.post(path).key("k").json("{}").send().await.assert_problem(400, "body-invalid");
        multipart(service.post(path).key("k"), "b", 1).send().await.assert_fresh(201);
        assert_eq!(service.runs(), runs + 1);
    }
}

async fn a_function_in_one_space_still_tells_endpoints_apart(backend: Backend) {
    let service = forms(&backend).await;
    for guard in ["/attribute", "/layer"] {
        let ask = |end: &str| multipart(service.post(&format!("{guard}/space/{end}")).key("k"), "b", 1).send();
        let first = ask("a").await;
        first.assert_fresh(201);
        ask("b").await.assert_problem(422, "key-reused");
        ask("a").await.assert_replay_of(&first);
    }
}
