//! Nothing that a caller or an operator would not show appears in logs, spans, metrics, errors, refusals or `Debug`.
//!
//! Every secret of these tests holds the word SECRET, and everything that can be read is searched for it: as text, as the
//! numbers of its bytes, in hex and in base64.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod events;
mod guesses;
mod transactions;

use std::{
    error::Error,
    fmt::{Debug, Write as _},
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body, extract::FromRef, routing::post};
use bytes::Bytes;
use idem_runtime::{
    Answer, Attempt, Disposition, FinancialRouter, Fingerprint, FingerprintRule, Idempotency, IdempotencyLayer,
    KeyRequest, KeySource, MemoryStore, OnConflict, Operation, Policy, PostgresStore, Principal, RedisStore,
    Settlement, StorageKey, Store, TieredStore, Unsettled, derive_key, idempotent,
    store::{
        Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
        StoreError, StoreErrorKind, Verdict, redis::RedisCache,
    },
};
use tests::{
    backend::{Fixture as _, Postgres, Sqlite},
    client::{Client, Reply},
    faulty_store::{Fault, FaultyStore, Step},
    gate::Gate,
    probe::cut_after,
    servers::{PostgresServer, RedisServer, free_port},
};
use tower::Layer;
use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

use self::transactions::secured;

const KEY: &str = "SECRET-key";
const PRINCIPAL: &str = "SECRET-principal";
const TOKEN: &str = "Bearer SECRET-token";
const BODY: &str = r#"{"card":"SECRET-body","id":"SECRET-id"}"#;
const ANSWER: &str = "SECRET-answer";
const PASSWORD: &str = "SECRET-password";
const PEPPER: &[u8] = b"SECRET-pepper";

/// Everything that was logged, by whichever crate, and everything that the tests print themselves.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

impl Log {
    fn add(&self, what: &str, text: &dyn Debug) {
        let _ = writeln!(self.0.lock().unwrap_or_else(PoisonError::into_inner), "{what}: {text:?}\n{what}: {text:#?}");
    }

    /// An error as whoever reports it shows it: with all that caused it.
    fn add_error(&self, what: &str, error: &(dyn Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.add(what, &format_args!("{error} / {error:#} / {error:?}"));
            next = error.source();
        }
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows the secret, in whichever form.
fn shows_a_secret(line: &str) -> bool {
    let close_up: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    // As text, as numbers, in hex, in base64.
    let forms = ["SECRET", "83,69,67,82,69,84", "534543524554", "U0VDUkVU"];
    forms.iter().any(|form| close_up.contains(form))
}

#[track_caller]
fn assert_shows_nothing(what: &str, text: &str) {
    let shown: Vec<&str> = text.lines().filter(|line| shows_a_secret(line)).take(10).collect();
    assert!(shown.is_empty(), "{what} shows a secret:\n{}", shown.join("\n"));
    // A `{:#?}` of bytes has one number on a line.
    assert!(!shows_a_secret(text), "{what} shows a secret over several lines");
}

/// Prints every argument and every result of a store.
#[derive(Debug)]
struct Printing<S>(S);

#[async_trait]
impl<S: Store> Store for Printing<S> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        LOG.add("claim", &claim);
        print(self.0.claim(claim).await)
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        LOG.add("claims", &claims);
        self.0.claim_many(claims).await.into_iter().map(print).collect()
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        LOG.add("renew", &renew);
        print(self.0.renew(renew).await)
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        LOG.add("complete", complete);
        print(self.0.complete(complete).await)
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        LOG.add("release", &release);
        print(self.0.release(release).await)
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        LOG.add("resolve", resolve);
        print(self.0.resolve(resolve).await)
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        LOG.add("parked", &parked);
        print(self.0.parked(parked).await)
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        LOG.add("forget", &key);
        print(self.0.forget(key).await)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        print(self.0.ping().await)
    }
}

fn print<T: Debug>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    match &result {
        Ok(result) => LOG.add("result", result),
        Err(error) => LOG.add_error("store error", error),
    }
    result
}

#[derive(Debug, Clone)]
struct App {
    idempotency: Idempotency,
    gate: Gate,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

type Answered = ([(&'static str, &'static str); 1], &'static str);

#[idempotent(scope = "secrets", key = from_header)]
async fn pay(attempt: Attempt, body: String) -> Answered {
    LOG.add("attempt", &attempt);
    assert_eq!(attempt.still_owner().await.ok(), Some(true));
    assert!(!body.contains("panic"), "the handler's own words");
    ([("x-answer", ANSWER)], ANSWER)
}

#[idempotent(scope = "unknown", key = from_header, financial)]
async fn unknown(_body: String) -> (Disposition, Answered) {
    (Disposition::Unknown, ([("x-answer", ANSWER)], ANSWER))
}

/// What it asks says more than it should.
#[idempotent(scope = "recovered", key = from_header, financial, on_abandoned = recover(ask))]
async fn recovered(_body: String) -> (Disposition, Answered) {
    (Disposition::Unknown, ([("x-answer", ANSWER)], ANSWER))
}

async fn ask(unsettled: Unsettled) -> Option<Settlement> {
    LOG.add("unsettled", &unsettled);
    panic!("SECRET-provider")
}

#[idempotent(scope = "json", key = from_body("/id"), fingerprint = json)]
async fn json(_body: String) -> Answered {
    ([("x-answer", ANSWER)], ANSWER)
}

#[idempotent(scope = "function", key = from_fn(find))]
async fn function(_body: String) -> Answered {
    ([("x-answer", ANSWER)], ANSWER)
}

fn find(request: &KeyRequest<'_>) -> Option<String> {
    LOG.add("key request", request);
    Some(KEY.to_owned())
}

#[idempotent(scope = "slow", key = from_header)]
async fn slow(axum::extract::State(app): axum::extract::State<App>, _body: String) -> Answered {
    app.gate.pass().await;
    ([("x-answer", ANSWER)], ANSWER)
}

struct Server {
    app: App,
    router: Router,
    client: Client,
}

async fn serve(store: impl Store) -> Server {
    let setup = Idempotency::builder(Printing(store));
    LOG.add("builder", &setup);
    let setup = setup.principal_from_header("x-account").pepper(PEPPER).max_answer_bytes(1000);
    LOG.add("setup", &setup);
    let app = App { idempotency: setup.build(), gate: Gate::new() };
    LOG.add("runtime", &app.idempotency);
    let layer = IdempotencyLayer::new(app.idempotency.clone(), Policy::new("layer"));
    LOG.add("layer", &layer);
    LOG.add("service", &layer.layer(Router::<()>::new()));
    let financial = FinancialRouter::<App>::new().post("/financial", unknown);
    LOG.add("router", &financial);
    let router = Router::new()
        .route("/layer/{id}", post(async || ([("x-answer", ANSWER)], ANSWER)))
        .layer(layer)
        .merge(financial.into_router())
        .route("/pay", post(pay))
        .route("/recovered", post(recovered))
        .route("/json", post(json))
        .route("/function", post(function))
        .route("/slow", post(slow))
        .with_state(app.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap());
    tokio::spawn(IntoFuture::into_future(axum::serve(listener, router.clone())));
    Server { app, router, client }
}

impl Server {
    async fn post(&self, path: &str, key: &str, body: &'static str) -> Reply {
        let ask = self.client.post(path).account(PRINCIPAL).key(key).header("authorization", TOKEN).body(body);
        let reply = ask.send().await;
        if !reply.status.is_success() {
            // A refusal, unlike an answer, is ours to word.
            LOG.add("refusal", &(&reply.headers, reply.text()));
        }
        LOG.add("metrics", &self.app.idempotency.metrics());
        reply
    }
}

/// What can happen to a request, with a store that works and one that fails.
async fn everything_that_can_happen(store: Arc<dyn Store>) {
    LOG.add("store", &store);
    let store = FaultyStore::around(store);
    let server = serve(store.clone()).await;
    let seen = async |path: &str, key: &str, body: &'static str, status: u16| {
        let reply = server.post(path, key, body).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {reply}");
    };
    seen("/pay?token=SECRET-query", KEY, BODY, 200).await;
    seen("/pay?token=SECRET-query", KEY, BODY, 200).await;
    seen("/pay?token=SECRET-query", KEY, "SECRET-other", 422).await;
    seen("/pay", "SECRET,invalid", BODY, 400).await;
    seen("/pay", "SECRET-panic", "panic SECRET", 500).await;
    seen("/layer/SECRET-path", KEY, BODY, 200).await;
    seen("/layer/SECRET-path", KEY, BODY, 200).await;
    seen("/financial", KEY, BODY, 200).await;
    seen("/financial", KEY, BODY, 409).await;
    seen("/recovered", KEY, BODY, 200).await;
    seen("/recovered", KEY, BODY, 409).await;
    seen("/json", KEY, BODY, 200).await;
    seen("/json", KEY, r#"{"id":"SECRET","SECRET":1,"SECRET":2}"#, 400).await;
    seen("/json", KEY, r#"{"id":["SECRET"]}"#, 400).await;
    seen("/function", KEY, BODY, 200).await;
    let nobody = server.client.post("/pay").without("x-account").key(KEY).body(BODY).send().await;
    assert_eq!(nobody.status, 400);
    LOG.add("refusal", &(&nobody.headers, nobody.text()));

    // In flight, its caller gone; a duplicate; the answer, recorded late.
    let slow = http::Request::post("/slow").header("x-account", PRINCIPAL).header("idempotency-key", KEY);
    let slow = slow.header("authorization", TOKEN).body(Body::from(BODY)).unwrap();
    tokio::select! {
        biased;
        response = tower::ServiceExt::oneshot(server.router.clone(), slow) => panic!("{response:?}"),
        () = server.app.gate.reached() => {}
    }
    seen("/slow", KEY, BODY, 409).await;
    store.fail_all(&Fault::Refused(StoreErrorKind::Unavailable));
    server.app.gate.open();
    store.called(Step::Complete, store.calls(Step::Complete) + 3).await;
    seen("/pay", "SECRET-while-down", BODY, 503).await;
    store.heal();
    assert!(server.app.idempotency.drain(Duration::from_secs(30)).await.finished);

    store.fail(Step::Claim, Fault::Mangled(|bytes| bytes.truncate(20)));
    seen("/json", KEY, BODY, 409).await;
    store.heal();
    execute(&server.app.idempotency).await;
}

/// The same without HTTP.
async fn execute(idempotency: &Idempotency) {
    let policy = Policy::new("execute")
        .key(&[KeySource::DEFAULT, KeySource::Function(find)])
        .fingerprint(FingerprintRule::Fields(&["/amount"]))
        .on_conflict(OnConflict::Wait(Duration::from_millis(10)));
    LOG.add("policy", &policy);
    let fingerprint = Fingerprint::of_bytes(BODY.as_bytes());
    let operation = Operation::new(policy, Principal::new(PRINCIPAL), KEY).fingerprint(fingerprint);
    let operation = operation.endpoint(&http::Method::POST, "/SECRET-path");
    LOG.add("operation", &(&operation, Principal::new(PRINCIPAL), fingerprint));
    let gate = Gate::new();
    let effect = {
        let gate = gate.clone();
        async move |attempt: Attempt| {
            LOG.add("attempt", &attempt);
            gate.pass().await;
            Ok::<_, io::Error>(ANSWER.to_owned())
        }
    };
    assert!(
        cut_after(1, idempotency.execute(operation.clone(), effect)).await.is_none()
            || idempotency.metrics().executed > 0
    );
    gate.reached().await;
    let conflict = idempotency.execute(operation.clone(), async |_| Ok::<_, io::Error>(String::new())).await;
    LOG.add_error("refusal", &conflict.unwrap_err());
    gate.open();
    assert!(idempotency.drain(Duration::from_secs(30)).await.finished);
    let settlements = [
        Settlement::responded(http::Response::new(Bytes::from(ANSWER))),
        Settlement::executed(),
        Settlement::not_executed(),
    ];
    for settlement in settlements {
        LOG.add("settlement", &settlement);
        LOG.add("resolved", &idempotency.resolve(&operation, settlement).await.unwrap());
    }
    let answer = Answer::from_bytes(Bytes::from(ANSWER));
    let verdict = Verdict::Completed { answer: Some(answer.clone()), ttl: Duration::ZERO, remember: Duration::ZERO };
    LOG.add("answer", &(&answer, verdict, Claimed::Completed { answer: Some(answer.clone()) }));
    let unfit = std::collections::HashMap::from([("SECRET", f64::NAN)]);
    LOG.add_error("derive", &derive_key("SECRET", "SECRET", &unfit).unwrap_err());
    LOG.add_error("json", &Fingerprint::of_json(&unfit).unwrap_err());
}

async fn nothing_shows_a_secret_on(store: Arc<dyn Store>) {
    everything_that_can_happen(store).await;
    assert_shows_nothing("the log", &LOG.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret_on_memory() {
    LazyLock::force(&LOG);
    nothing_shows_a_secret_on(Arc::new(MemoryStore::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret_on_redis() {
    LazyLock::force(&LOG);
    let redis = RedisServer::on(free_port(), &[], Some(PASSWORD));
    nothing_shows_a_secret_on(Arc::new(RedisStore::connect(&redis.url()).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret_on_sqlite() {
    LazyLock::force(&LOG);
    let sqlite = Sqlite::start().await;
    nothing_shows_a_secret_on(sqlite.connect().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret_on_tiered() {
    LazyLock::force(&LOG);
    let (postgres, port) = (Postgres::start().await, free_port());
    let mut redis = tokio::task::spawn_blocking(move || RedisServer::on(port, &[], Some(PASSWORD))).await.unwrap();
    let authority = secured(&postgres, "secured_tiered").await;
    let cache = RedisCache::builder().timeout(Duration::from_millis(300)).server(&redis.url()).unwrap();
    LOG.add("cache", &cache);
    let store = Arc::new(TieredStore::new(authority, cache));
    nothing_shows_a_secret_on(store.clone()).await;
    // Nor with a cache that is gone.
    redis.kill();
    let server = serve(FaultyStore::around(store)).await;
    for _ in 0..2 {
        assert_eq!(server.post("/pay", "SECRET-without-a-cache", BODY).await.status, 200);
    }
    assert_shows_nothing("the log", &LOG.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret_on_postgres() {
    LazyLock::force(&LOG);
    let postgres = Postgres::start().await;
    let (server, schema) = (PostgresServer::shared(), postgres.schema());
    let store = Arc::new(secured(&postgres, "secured").await);
    nothing_shows_a_secret_on(store.clone()).await;

    // The server's own words on a row that it refuses hold the row.
    server.run(&format!("ALTER TABLE {schema}.idem_records ADD CONSTRAINT refused CHECK (answer IS NULL) NOT VALID"));
    let service = serve(FaultyStore::around(store)).await;
    assert_eq!(service.post("/pay", "SECRET-refused", BODY).await.status, 200);
    let text = LOG.text();
    assert!(text.lines().any(|line| line.contains("completion failed") && line.contains("23514")), "it is not told");
    assert!(!text.contains("Failing row"), "the row is told");
    assert_shows_nothing("the log", &text);
    server.run(&format!("ALTER TABLE {schema}.idem_records DROP CONSTRAINT refused"));
    assert!(service.app.idempotency.drain(Duration::from_secs(30)).await.finished);
}

/// An operation can be followed through the log all the same: by eight hex digits of its storage key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_digest_is_shown() {
    LazyLock::force(&LOG);
    let store = FaultyStore::new(MemoryStore::new());
    let server = serve(store.clone()).await;
    store.fail(Step::Claim, Fault::Refused(StoreErrorKind::Misconfigured));
    assert_eq!(server.post("/pay", KEY, BODY).await.status, 503);
    let text = LOG.text();
    let line = text.lines().find(|line| line.contains("claim failed") && line.contains("set up wrong")).unwrap();
    let (_, digest) = line.split_once("claim failed key=").unwrap();
    let digest = digest.split_whitespace().next().unwrap();
    assert!(digest.len() == 8 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    assert!(text.contains(&format!("StorageKey({digest})")), "the claim has the same digest");
}

/// A wrong URL, a wrong password, a server that is not there: whatever is said of them, the password is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_shows_a_password() {
    LazyLock::force(&LOG);
    let port = free_port();
    let _redis = RedisServer::on(port, &[], Some("another"));
    let urls = [
        format!("redis://:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://SECRET-user:{PASSWORD}@127.0.0.1:{port}/0"),
        format!("redis://:{PASSWORD}@127.0.0.1:1"),
        format!("rediss://:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://:{PASSWORD}@not-a-host.invalid:6379"),
        format!("redis://:{PASSWORD}@127.0.0.1:99999"),
        format!("redis://:{PASSWORD}@127.0.0.1:{port}/not-a-number"),
        format!("redis://:{PASSWORD}@[::bad"),
        format!("http://:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis:/{PASSWORD}"),
        PASSWORD.to_owned(),
    ];
    let builder = || {
        let builder = RedisStore::builder().connect_timeout(Duration::from_millis(300));
        builder.command_timeout(Duration::from_millis(300)).login("SECRET-user", PASSWORD)
    };
    LOG.add("builder", &builder());
    for url in &urls {
        let errors = [
            builder().connect(url).await.unwrap_err(),
            builder().cluster([url]).await.unwrap_err(),
            builder().sentinel([url], "master").await.unwrap_err(),
        ];
        for error in errors {
            LOG.add_error("connect", &error);
        }
        let cache = || RedisCache::builder().login("SECRET-user", PASSWORD);
        LOG.add("cache", &cache());
        for cache in [cache().server(url), cache().cluster([url]), cache().sentinel([url], "master")] {
            match cache {
                Ok(cache) => LOG.add("cache", &cache),
                Err(error) => LOG.add_error("cache", &error),
            }
        }
    }
    let postgres = tokio::task::spawn_blocking(PostgresServer::shared).await.unwrap();
    for url in [
        postgres.url_of(&format!("secured:{PASSWORD}-too")),
        format!("postgres://SECRET-user:{PASSWORD}@127.0.0.1:1/postgres"),
        format!("postgres://SECRET-user:{PASSWORD}@not-a-host.invalid/postgres"),
        format!("postgres://SECRET-user:{PASSWORD}@127.0.0.1:99999/postgres"),
        format!("postgres://SECRET-user:{PASSWORD}@localhost/postgres?sslmode={PASSWORD}"),
        format!("http://:{PASSWORD}@127.0.0.1"),
        PASSWORD.to_owned(),
    ] {
        let patient = || PostgresStore::builder().connect_timeout(Duration::from_secs(2));
        LOG.add_error("connect", &patient().connect(&url).await.unwrap_err());
        LOG.add_error("migrate", &patient().migrate(&url).await.unwrap_err());
    }
    assert_shows_nothing("an error", &LOG.text());
}
