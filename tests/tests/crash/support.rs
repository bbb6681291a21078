//! A store on real servers, processes that serve on it, and the ledger they share.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tests::{
    client::{Ask, Client, Reply},
    ledger,
    servers::{PostgresServer, RedisServer, eventually_async},
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};

/// Longer than anything takes here: what is waited for longer does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes of every function `async fn name(world: World)` one test for each of these stores.
macro_rules! on_stores {
    ($stores:tt: [$($test:ident)*]) => {
        $(on_stores!($test on $stores);)*
    };
    ($test:ident on [$($store:ident)*]) => {
        mod $test {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $store() {
                    super::$test(crate::support::World::$store()).await;
                }
            )*
        }
    };
}
pub(crate) use on_stores;

/// A store and the ledger of the processes on it.
pub(crate) struct World {
    pub(crate) url: String,
    servers: Servers,
    directory: TempDir,
}

/// What the store lives on, if it is the test's own.
#[derive(Default)]
struct Servers {
    redis: Option<RedisServer>,
    postgres: Option<PostgresServer>,
}

/// One process.
pub(crate) struct App {
    child: Child,
    client: Client,
    said: Mutex<mpsc::UnboundedReceiver<String>>,
}

/// One line of the ledger. The body is that of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Begin { by: String, attempt: u32, fence: u64, downstream: String, body: String },
    End { by: String, attempt: u32, owner: String, downstream: String, body: String },
}

impl World {
    /// A file.
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("records.db").display());
        Self { url, servers: Servers::default(), directory }
    }

    /// A Redis as it comes: a restart forgets everything.
    pub(crate) fn redis() -> Self {
        Self::on_redis(&[])
    }

    /// A Redis of which a restart forgets nothing.
    pub(crate) fn durable_redis() -> Self {
        Self::on_redis(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A schema in a server that is not to be stopped.
    pub(crate) fn postgres() -> Self {
        Self::new(schema(), Servers::default())
    }

    /// A Postgres, which forgets nothing.
    pub(crate) fn durable_postgres() -> Self {
        let postgres = PostgresServer::start();
        Self::new(postgres.url(), Servers { postgres: Some(postgres), redis: None })
    }

    /// Such a schema, and a Redis for copies.
    pub(crate) fn tiered() -> Self {
        let redis = RedisServer::start();
        Self::new(tiered(&schema(), &redis), Servers { redis: Some(redis), postgres: None })
    }

    /// Such a Postgres, and a Redis that forgets everything.
    pub(crate) fn durable_tiered() -> Self {
        let (postgres, redis) = (PostgresServer::start(), RedisServer::start());
        Self::new(tiered(&postgres.url(), &redis), Servers { redis: Some(redis), postgres: Some(postgres) })
    }

    fn on_redis(arguments: &[&str]) -> Self {
        let redis = RedisServer::with(arguments);
        Self::new(redis.url(), Servers { redis: Some(redis), postgres: None })
    }

    fn new(url: String, servers: Servers) -> Self {
        Self { url, servers, directory: tempfile::tempdir().unwrap() }
    }

    /// Kills what the store lives on.
    pub(crate) fn kill(&mut self) {
        self.servers.redis.iter_mut().for_each(RedisServer::kill);
        self.servers.postgres.iter_mut().for_each(PostgresServer::kill);
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self) {
        self.servers.redis.iter_mut().for_each(RedisServer::restart);
        self.servers.postgres.iter_mut().for_each(PostgresServer::restart);
    }

    /// Makes it stand still, its connections open.
    pub(crate) fn pause(&self) {
        self.servers.redis.iter().for_each(RedisServer::pause);
        self.servers.postgres.iter().for_each(PostgresServer::pause);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.servers.redis.iter().for_each(RedisServer::resume);
        self.servers.postgres.iter().for_each(PostgresServer::resume);
    }

    /// The Postgres of the store, for what happens to it alone.
    pub(crate) fn authority(&mut self) -> &mut PostgresServer {
        self.servers.postgres.as_mut().expect("a Postgres of its own")
    }

    /// Until the cache has so many copies.
    pub(crate) async fn copies(&self, many: u64) {
        let redis = self.servers.redis.as_ref().expect("a Redis of its own");
        let copied = async || (redis.run::<u64>(&["DBSIZE"]) >= many).then_some(());
        eventually_async("copies in the cache", PATIENCE, copied).await;
    }

    /// Starts a process that calls itself so, and waits long for its store.
    pub(crate) fn app(&self, name: &str) -> App {
        self.start(name, &["patient"])
    }

    /// The same with the time-outs that a store has by itself.
    pub(crate) fn app_as_it_comes(&self, name: &str) -> App {
        self.start(name, &[])
    }

    fn start(&self, name: &str, arguments: &[&str]) -> App {
        let mut child = Command::new(env!("CARGO_BIN_EXE_crash_app"))
            .args([name, &self.url])
            .arg(self.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.next().and_then(Result::ok).unwrap_or_default();
        let client = Client::new(address.parse().unwrap_or_else(|_| panic!("`{name}` did not start")));
        let (say, said) = mpsc::unbounded_channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        App { child, client, said: Mutex::new(said) }
    }

    pub(crate) fn ledger(&self) -> Vec<Line> {
        ledger::lines(&self.path()).iter().map(|line| Line::parse(line)).collect()
    }

    /// The lines of each body.
    pub(crate) fn ledger_by_body(&self) -> HashMap<String, Vec<Line>> {
        let mut bodies: HashMap<String, Vec<Line>> = HashMap::new();
        for line in self.ledger() {
            let (Line::Begin { body, .. } | Line::End { body, .. }) = &line;
            bodies.entry(body.clone()).or_default().push(line);
        }
        bodies
    }

    /// Until a handler has begun on this body.
    pub(crate) async fn line(&self, body: &str) {
        let begun = async || self.ledger_by_body().contains_key(body).then_some(());
        eventually_async("a line in the ledger", PATIENCE, begun).await;
    }

    /// Whether the processes have `/transact`.
    pub(crate) fn has_transactions(&self) -> bool {
        !self.url.starts_with("redis:")
    }

    /// How often a handler began.
    pub(crate) fn runs(&self) -> usize {
        self.ledger().iter().filter(|line| matches!(line, Line::Begin { .. })).count()
    }

    /// Until there are so many lines.
    pub(crate) async fn lines(&self, many: usize) -> Vec<Line> {
        let what = format!("{many} lines in the ledger");
        eventually_async(&what, PATIENCE, async || Some(self.ledger()).filter(|lines| lines.len() >= many)).await
    }

    /// Adds a line that no process wrote.
    pub(crate) fn write(&self, line: &str) {
        ledger::append(&self.path(), line).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }
}

/// The URL of a schema of its own in the server that tests share.
fn schema() -> String {
    let schema = PostgresServer::schema();
    format!("{}?options[search_path]={}", schema.url, schema.name)
}

fn tiered(postgres: &str, redis: &RedisServer) -> String {
    format!("tiered:{postgres},{}", redis.url())
}

impl Line {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin", by, attempt, fence, downstream, body] => Self::Begin {
                by: by.to_owned(),
                attempt: attempt.parse().unwrap(),
                fence: fence.parse().unwrap(),
                downstream: downstream.to_owned(),
                body: body.to_owned(),
            },
            ["end", by, attempt, owner, downstream, body] => Self::End {
                by: by.to_owned(),
                attempt: attempt.parse().unwrap(),
                owner: owner.to_owned(),
                downstream: downstream.to_owned(),
                body: body.to_owned(),
            },
            _ => panic!("not a line of the ledger: `{line}`"),
        }
    }
}

impl App {
    /// A request with the key `k`.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.ask(path, "k", body).send().await
    }

    /// The same with another key.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &str) -> Reply {
        self.ask(path, key, body).send().await
    }

    /// The answer, once neither a lease nor a store that comes back stands against it.
    pub(crate) async fn answered(&self, key: &str, path: &str, body: &str) -> Reply {
        self.until(key, path, body, |reply| reply.status == 200).await
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.client.ask(http::Method::GET, path).send().await.text()
    }

    /// Every row that a transaction has written: the body of its request, and the run.
    pub(crate) async fn effects(&self) -> HashMap<String, Vec<String>> {
        let mut effects: HashMap<String, Vec<String>> = HashMap::new();
        let rows: Vec<(String, String)> = serde_json::from_str(&self.get("/effects").await).unwrap();
        for (body, run) in rows {
            effects.entry(body).or_default().push(run);
        }
        effects
    }

    /// The same where there are transactions, and nothing elsewhere.
    pub(crate) async fn effects_if(&self, there: bool) -> HashMap<String, Vec<String>> {
        if there { self.effects().await } else { HashMap::new() }
    }

    /// Until so many requests have written rows.
    pub(crate) async fn effects_by(&self, many: usize) {
        let what = format!("{many} rows");
        eventually_async(&what, PATIENCE, async || (self.effects().await.len() >= many).then_some(())).await;
    }

    /// Sends it from a task of its own. `None`: the process died on it.
    pub(crate) fn send(&self, path: &str, body: &str) -> JoinHandle<Option<Reply>> {
        self.send_as("k", path, body)
    }

    /// The same with another key.
    pub(crate) fn send_as(&self, key: &str, path: &str, body: &str) -> JoinHandle<Option<Reply>> {
        let ask = self.ask(path, key, body);
        tokio::spawn(async move { ask.try_send().await.ok() })
    }

    /// Sends it again while the first is in flight, and gives back the first other answer.
    pub(crate) async fn retry(&self, path: &str, body: &str) -> Reply {
        self.retry_as("k", path, body).await
    }

    /// As [`retry`](Self::retry) at another process, while this one stands still.
    ///
    /// In SQLite one that was stopped within a write, of a renewal perhaps, keeps everybody else from writing: that is no place to
    /// stop it at.
    pub(crate) async fn retried_while_stopped(&self, other: &Self, path: &str, body: &str) -> Reply {
        let mut tries = 0;
        loop {
            self.stop();
            let reply = other.retry(path, body).await;
            if reply.status != 503 || tries == 10 {
                return reply;
            }
            tries += 1;
            self.go_on();
            self.get("/stale").await;
        }
    }

    /// The same with another key.
    pub(crate) async fn retry_as(&self, key: &str, path: &str, body: &str) -> Reply {
        self.until(key, path, body, |reply| !(reply.status == 409 && reply.text().contains("in-flight"))).await
    }

    /// Sends it again until an answer will do.
    pub(crate) async fn until(&self, key: &str, path: &str, body: &str, will_do: impl Fn(&Reply) -> bool) -> Reply {
        let what = format!("another answer of {path} to `{key}`");
        eventually_async(&what, PATIENCE, async || Some(self.ask(path, key, body).send().await).filter(&will_do)).await
    }

    fn ask(&self, path: &str, key: &str, body: &str) -> Ask {
        self.client.post(path).key(key).body(body.to_owned())
    }

    /// From now on everybody stands still at this step.
    pub(crate) async fn stop_at(&self, step: &'static str) {
        self.post("/stop", step).await.assert_fresh(200);
    }

    /// Until so many stand still at this step.
    pub(crate) async fn stopped_at(&self, step: &str, many: usize) {
        let mut said = self.said.lock().await;
        for number in 1..=many {
            let line = tokio::time::timeout(PATIENCE, said.recv()).await;
            let line = line.unwrap_or_else(|_| panic!("only {} of {many} came to {step}", number - 1));
            assert_eq!(line.as_deref(), Some(&*format!("stopped at {step}")));
        }
    }

    /// SIGKILL, and the end of it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success(), "cannot send {name}");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Gone already is gone as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
