//! The built service as real processes, and a client for it.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses its part")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tests::servers::{PostgresSchema, PostgresServer, RedisServer};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// Refusals after which the same request may be answered otherwise.
pub(crate) const LATER: [&str; 4] = ["in-flight", "store-unavailable", "contended", "commit-unconfirmed"];

/// Longer than anything here takes, so that what hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One replica. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    /// Open as long as the process, which would otherwise write to a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// What it says of its store and its ledger.
    pub(crate) places: Vec<String>,
    caller: Caller,
}

/// Who calls a replica.
#[derive(Clone)]
pub(crate) struct Caller {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

/// Where answers are kept, for one test.
pub(crate) struct Place {
    pub(crate) url: String,
    _redis: Option<RedisServer>,
    _folder: Option<tempfile::TempDir>,
}

/// A ledger file that replicas share, and their log beside it.
pub(crate) struct Ledger {
    folder: tempfile::TempDir,
}

/// Makes of every function `async fn name(place: Place)` one test for each of these stores.
macro_rules! on_stores {
    ($stores:tt: [$($test:ident)*]) => {
        $(crate::support::on_stores!($test on $stores);)*
    };
    ($test:ident on [$($store:ident)*]) => {
        mod $test {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $store() {
                    super::$test(crate::support::Place::$store()).await;
                }
            )*
        }
    };
}
pub(crate) use on_stores;

impl Place {
    pub(crate) fn memory() -> Self {
        Self { url: "memory:".to_owned(), _redis: None, _folder: None }
    }

    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("payments.db").display());
        Self { url, _redis: None, _folder: Some(folder) }
    }

    pub(crate) fn redis() -> Self {
        let redis = RedisServer::start();
        Self { url: redis.url(), _redis: Some(redis), _folder: None }
    }

    /// A schema of its own in a server that tests share.
    pub(crate) fn postgres() -> Self {
        let PostgresSchema { url, name } = PostgresServer::schema();
        Self { url: format!("{url}?options[search_path]={name}"), _redis: None, _folder: None }
    }

    pub(crate) fn tiered() -> Self {
        let (postgres, redis) = (Self::postgres(), Self::redis());
        Self { url: format!("tiered:{},{}", postgres.url, redis.url), ..redis }
    }
}

impl Service {
    /// Starts a replica and waits for it to say that it listens.
    pub(crate) async fn start(store: &str, ledger: &Ledger) -> Self {
        Self::start_with(command(store, Some(&ledger.path())), ledger).await
    }

    /// The same, started otherwise.
    pub(crate) async fn start_with(mut command: Command, ledger: &Ledger) -> Self {
        let log = File::options().append(true).create(true).open(ledger.log_path()).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the service starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = within(lines.next_line()).await.expect("stdout is read");
        let Some(line) = line else { panic!("the service has ended: {}", ledger.log()) };
        let url = line.strip_prefix("listening on ").expect("the line names the address").to_owned();
        let caller = Caller { url, client: Client::builder(TokioExecutor::new()).build_http() };
        let mut places = Vec::new();
        for _ in 0..2 {
            places.extend(within(lines.next_line()).await.expect("stdout is read"));
        }
        Self { child, _stdout: lines, places, caller }
    }

    /// SIGKILL: no destructor, no goodbye.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let pid = self.child.id().expect("still running").to_string();
        let status = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().await.expect("a shell");
        assert!(status.success());
    }

    pub(crate) async fn exit(mut self) -> ExitStatus {
        within(self.child.wait()).await.expect("waited for")
    }
}

impl std::ops::Deref for Service {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Caller {
    pub(crate) async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Answer {
        self.post_as("alice", path, key, body).await
    }

    pub(crate) async fn post_as(&self, caller: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
        self.try_post(caller, path, key, body).await.expect("an answer")
    }

    /// As a client does that is told to come back later, until the answer is none of these refusals. A store that is late, on a
    /// machine that has other things to do, is one: nothing ran.
    pub(crate) async fn insist(&self, refusals: &[&str], path: &str, key: &str, body: &Value) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.post(path, Some(key), body).await;
            assert!(began.elapsed() < PATIENCE, "no end to {answer:?}");
            let Some(seconds) = answer.header("retry-after").and_then(|seconds| seconds.parse().ok()) else {
                return answer;
            };
            if !refusals.contains(&&*answer.code()) {
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// JSON as it is written, and no key.
    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.send(self.request("alice", path, None, body.to_owned())).await.expect("an answer")
    }

    /// `None`: the connection ended without an answer.
    pub(crate) async fn try_post(&self, caller: &str, path: &str, key: Option<&str>, body: &Value) -> Option<Answer> {
        self.send(self.request(caller, path, key, body.to_string())).await
    }

    fn request(&self, caller: &str, path: &str, key: Option<&str>, body: String) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.uri(path)).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.header("authorization", format!("Bearer {caller}"));
        request.body(Full::from(body)).expect("a request")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(self.uri(path)).header("authorization", "Bearer alice");
        self.send(request.body(Full::default()).expect("a request")).await.expect("an answer")
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let response = within(self.client.request(request)).await.ok()?;
        let (parts, body) = response.into_parts();
        let bytes = within(body.collect()).await.ok()?.to_bytes();
        Some(Answer { status: parts.status, headers: parts.headers, bytes })
    }

    pub(crate) fn uri(&self, path: &str) -> Uri {
        format!("{}{path}", self.url).parse().expect("a URI")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("plain HTTP")
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in {:?}", self.bytes))
    }

    /// The `code` of a refusal.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub(crate) fn replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    /// Every effect there was.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).expect("the ledger is there");
        // A line that is being written is none yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// What the replicas wrote to stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).expect("the log is there")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("service.log")
    }
}

/// The service, about to start on a free port.
pub(crate) fn command(store: &str, ledger: Option<&Path>) -> Command {
    let mut command = bare_command();
    command.args(["--store", store]);
    if let Some(ledger) = ledger {
        command.arg("--ledger").arg(ledger);
    }
    command
}

/// The same, with no word on its store.
pub(crate) fn bare_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    // What a developer has set for a service of their own is not meant for these.
    for name in ["IDEM_LISTEN", "IDEM_STORE", "IDEM_LEDGER", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command.env("IDEM_LISTEN", "127.0.0.1:0").stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) fn card(source: &str) -> Value {
    json!({ "amount": 1999, "currency": "usd", "source": source })
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}
