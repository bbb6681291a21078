//! The key in its header: what is one, what is none, and what it is to a store.

use axum::{Router, extract::State, response::Response, routing::post};
use http::Method;
use idem_runtime::{ExecuteError, KeySource, Operation, Policy, Principal, Refusal, idempotent};
use tests::{
    backend::Backend,
    service::{App, Call, Service},
};

tests::on_every_store!(
    a_missing_key_is_refused,
    without_a_key_option_a_request_without_a_key_runs_each_time,
    without_a_key_option_a_request_with_a_key_is_guarded,
    a_key_that_may_be_missing_guards_where_it_is_given,
    a_key_that_must_be_given_need_not_be_chosen,
    both_spellings_of_a_key_are_one_key,
    a_quoted_key_is_what_its_escapes_say,
    what_is_no_key_is_refused,
    what_is_no_key_is_refused_where_the_key_is_optional,
    a_key_in_two_header_lines_is_refused,
    a_key_of_255_characters_passes,
    keys_differ_in_case,
    a_key_is_data,
    white_space_around_a_key_is_not_part_of_it,
    another_header_may_hold_the_key,
    a_key_is_found_among_many_headers,
);

#[idempotent(scope = "things", key = from_header)]
async fn required(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things")]
async fn optional(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_header, missing = run)]
async fn required_unless_missing(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", missing = reject)]
async fn not_missing(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "things", key = from_header("X-Message-Id"))]
async fn named(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

async fn service(backend: &Backend) -> Service {
    let routes = Router::new()
        .route("/required", post(required))
        .route("/optional", post(optional))
        .route("/required-unless-missing", post(required_unless_missing))
        .route("/not-missing", post(not_missing))
        .route("/named", post(named));
    Service::start(backend, routes).await
}

async fn a_missing_key_is_refused(backend: Backend) {
    let service = service(&backend).await;
    service.post("/required").body("{}").send().await.assert_problem(400, "key-missing");
    assert_eq!(service.runs(), 0);
    assert_eq!(service.store().steps().claims, 0);
    assert_eq!(backend.records().await, 0);
}

async fn without_a_key_option_a_request_without_a_key_runs_each_time(backend: Backend) {
    let service = service(&backend).await;
    for run in 1..=3 {
        let reply = service.post("/optional").body("{}").send().await;
        reply.assert_fresh(201);
        assert_eq!(reply.text(), format!(r#"{{"run":{run}}}"#));
    }
    assert_eq!(service.store().steps().claims, 0);
    assert_eq!(backend.records().await, 0);
}

async fn without_a_key_option_a_request_with_a_key_is_guarded(backend: Backend) {
    let service = service(&backend).await;
    let first = service.post("/optional").key("k").send().await;
    first.assert_fresh(201);
    service.post("/optional").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}

async fn a_key_that_may_be_missing_guards_where_it_is_given(backend: Backend) {
    let service = service(&backend).await;
    let path = "/required-unless-missing";
    service.post(path).send().await.assert_fresh(201);
    service.post(path).send().await.assert_fresh(201);
    let first = service.post(path).key("k").send().await;
    first.assert_fresh(201);
    service.post(path).key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 3);
}

async fn a_key_that_must_be_given_need_not_be_chosen(backend: Backend) {
    let service = service(&backend).await;
    service.post("/not-missing").send().await.assert_problem(400, "key-missing");
    assert_eq!(service.runs(), 0);
    service.post("/not-missing").key("k").send().await.assert_fresh(201);
}

async fn both_spellings_of_a_key_are_one_key(backend: Backend) {
    let service = service(&backend).await;
    let spellings = [
        &["\"abc\"", "abc", "\"abc\";v=1", "\"abc\";v=1;w=\"x\"", "\"abc\"; flag", "\"abc\";a=?1;b=:aGk=:;c=1.5"][..],
        &["bare-first", "\"bare-first\""],
        &["a:b/c=d", "\"a:b/c=d\""],
        &["'", "\"'\""],
    ];
    for (number, spellings) in spellings.iter().enumerate() {
        let [first, others @ ..] = spellings else { unreachable!("not empty") };
        let first = service.post("/required").key(first).send().await;
        first.assert_fresh(201);
        for other in others {
            service.post("/required").key(other).send().await.assert_replay_of(&first);
        }
        assert_eq!(service.runs(), number + 1);
    }
}

async fn a_quoted_key_is_what_its_escapes_say(backend: Backend) {
    const POLICY: Policy = Policy::new("things").key(&[KeySource::DEFAULT]).validate();
    let service = service(&backend).await;
    for (header, key) in [
        (r#""a\"b\\c""#, r#"a"b\c"#),
        (r#""a\\\"""#, r#"a\""#),
        (r#"" a ""#, " a "),
        (r#""a, b; c""#, "a, b; c"),
        (r#""\\\\""#, r"\\"),
    ] {
        service.post("/required").key(header).send().await.assert_fresh(201);
        // Whoever claims the same record with another fingerprint is told so; any other text would run.
        let operation = Operation::new(POLICY, Principal::new("acct_1"), key).endpoint(&Method::POST, "/required");
        let executed = service.idempotency().execute(operation, |_| async { Ok::<_, ()>(()) }).await;
        assert!(
            matches!(executed, Err(ExecuteError::Refused(Refusal::Mismatch))),
            "`{header}` is not `{key}`: {executed:?}"
        );
    }
}

const NO_KEYS: &[&[u8]] = &[
    b"",
    b"\"\"",
    b"\"a\\x\"",
    b"\"a\\",
    b"\"a",
    b"\"",
    b"\"a\"b",
    b"\"a\" \"b\"",
    b"\"a\", \"b\"",
    b"\"a\";",
    b"\"a\";V=1",
    b"\"a\";v=",
    b"\"a\\\"",
    b"\"a\tb\"",
    b"\"\xc3\xa4\"",
    b"\"\xff\"",
    b"a, b",
    b"a,b",
    b"a;v=1",
    b"a b",
    b"a\tb",
    b"a\"b\"",
    b"a\\b",
    b"a\"",
    b"\xc3\xa4",
    b"a\x80",
    b",",
];

async fn what_is_no_key_is_refused(backend: Backend) {
    let service = service(&backend).await;
    let long = [vec![b'k'; 256], [b"\"", &[b'k'; 256][..], b"\""].concat(), vec![b'k'; 4000]];
    for key in NO_KEYS.iter().copied().chain(long.iter().map(Vec::as_slice)) {
        let reply = service.post("/required").header("idempotency-key", key).body("{}").send().await;
        assert_eq!(reply.status, 400, "`{}`: {reply}", key.escape_ascii());
        reply.assert_problem(400, "key-invalid");
        let shown = String::from_utf8_lossy(key);
        assert!(key.len() < 200 || !reply.text().contains(&*shown), "the key is in the refusal: {reply}");
    }
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
}

async fn what_is_no_key_is_refused_where_the_key_is_optional(backend: Backend) {
    let service = service(&backend).await;
    for path in ["/optional", "/required-unless-missing", "/not-missing"] {
        for key in NO_KEYS {
            let reply = service.post(path).header("idempotency-key", key).send().await;
            reply.assert_problem(400, "key-invalid");
        }
    }
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
}

async fn a_key_in_two_header_lines_is_refused(backend: Backend) {
    let service = service(&backend).await;
    for path in ["/required", "/optional"] {
        for second in ["a", "b", "", "\"a\""] {
            let reply = service.post(path).key("a").key(second).send().await;
            reply.assert_problem(400, "key-invalid");
        }
    }
    assert_eq!(service.runs(), 0);
    assert_eq!(backend.records().await, 0);
}

async fn a_key_of_255_characters_passes(backend: Backend) {
    let service = service(&backend).await;
    let long = "k".repeat(255);
    let first = service.post("/required").key(&long).send().await;
    first.assert_fresh(201);
    service.post("/required").key(&format!("\"{long}\"")).send().await.assert_replay_of(&first);
    // An escape is written with two characters, and is one.
    let escaped = format!("\"{}\"", "\\\"".repeat(255));
    service.post("/required").key(&escaped).send().await.assert_fresh(201);
    service
        .post("/required")
        .key(&format!("\"{}\"", "\\\"".repeat(256)))
        .send()
        .await
        .assert_problem(400, "key-invalid");
    assert_eq!(service.runs(), 2);
}

async fn keys_differ_in_case(backend: Backend) {
    let service = service(&backend).await;
    let upper = service.post("/required").key("ABC").send().await;
    let lower = service.post("/required").key("abc").send().await;
    upper.assert_fresh(201);
    lower.assert_fresh(201);
    service.post("/required").key("ABC").send().await.assert_replay_of(&upper);
    service.post("/required").key("abc").send().await.assert_replay_of(&lower);
    assert_eq!(service.runs(), 2);
}

async fn a_key_is_data(backend: Backend) {
    let service = service(&backend).await;
    let keys = [
        "\"'; DROP TABLE idempotency; --\"",
        "'",
        ":",
        "::",
        "*",
        "?",
        "{}",
        "{a}",
        "{a}b",
        "[a-z]",
        "%",
        "_",
        "%00",
        "$1",
        "\"$(kill 1)\"",
        "\"KEYS[1]\"",
        "../../etc/passwd",
        "null",
        "0",
        "00",
        "-1",
        "1e0",
        "true",
        "idem:{a}",
        "a:b",
        "a::b",
    ];
    let mut firsts = Vec::new();
    for key in keys {
        let first = service.post("/required").key(key).send().await;
        assert_eq!(first.status, 201, "`{key}`: {first}");
        first.assert_fresh(201);
        firsts.push(first);
    }
    for (key, first) in keys.iter().zip(&firsts) {
        service.post("/required").key(key).send().await.assert_replay_of(first);
    }
    assert_eq!(service.runs(), keys.len());
    assert_eq!(backend.records().await, keys.len());
}

async fn white_space_around_a_key_is_not_part_of_it(backend: Backend) {
    let service = service(&backend).await;
    for spelling in ["Idempotency-Key: k", "idempotency-key:k", "IDEMPOTENCY-KEY:  \t k \t", "Idempotency-Key: \"k\"  "]
    {
        let head =
            format!("POST /required HTTP/1.1\r\nHost: a\r\nX-Account: acct_1\r\nConnection: close\r\n{spelling}\r\n");
        let reply = service.client().raw(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
        assert!(reply.starts_with(b"HTTP/1.1 201 Created\r\n"), "`{spelling}`: {}", reply.escape_ascii());
    }
    assert_eq!(service.runs(), 1);
}

async fn another_header_may_hold_the_key(backend: Backend) {
    let service = service(&backend).await;
    let missing = service.post("/named").key("k").send().await;
    missing.assert_problem(400, "key-missing");
    assert!(missing.text().contains("needs an idempotency key in the header `x-message-id`, the same"), "{missing}");
    let first = service.post("/named").header("x-message-id", "k").send().await;
    first.assert_fresh(201);
    // The usual header is then a header like any other.
    let retry = service.post("/named").header("x-message-id", "\"k\"").key("something, else").send().await;
    retry.assert_replay_of(&first);
    service.post("/named").header("x-message-id", "a b").send().await.assert_problem(400, "key-invalid");
    assert_eq!(service.runs(), 1);
}

async fn a_key_is_found_among_many_headers(backend: Backend) {
    let service = service(&backend).await;
    let ask = |key: &str| {
        let noise =
            (0..90).fold(service.post("/required"), |ask, number| ask.header(&format!("x-noise-{number}"), "noise"));
        noise.key(key)
    };
    let first = ask("k").send().await;
    first.assert_fresh(201);
    ask("k").send().await.assert_replay_of(&first);
    service.post("/required").key("k").send().await.assert_replay_of(&first);
    assert_eq!(service.runs(), 1);
}
