//! A Redis, processes that serve on it, and the ledger they share.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tests::{
    client::{Ask, Client, Reply},
    servers::{RedisServer, eventually_async},
};
use tokio::task::JoinHandle;

/// Longer than anything takes here: what is waited for longer does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis and the ledger of the processes on it.
pub(crate) struct World {
    pub(crate) redis: RedisServer,
    directory: TempDir,
}

/// One process.
pub(crate) struct App {
    child: Child,
    client: Client,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Begin { by: String, attempt: u32, fence: u64, downstream: String },
    End { by: String, attempt: u32, owner: String },
}

impl World {
    pub(crate) fn new(redis: RedisServer) -> Self {
        Self { redis, directory: tempfile::tempdir().unwrap() }
    }

    /// Starts a process that calls itself so.
    pub(crate) fn app(&self, name: &str) -> App {
        let mut child = Command::new(env!("CARGO_BIN_EXE_crash_app"))
            .args([name, &self.redis.url()])
            .arg(self.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let client = Client::new(address.trim().parse().unwrap_or_else(|_| panic!("`{name}` did not start")));
        App { child, client }
    }

    pub(crate) fn ledger(&self) -> Vec<Line> {
        fs::read_to_string(self.path()).unwrap_or_default().lines().map(Line::parse).collect()
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

    fn path(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin", by, attempt, fence, downstream] => Self::Begin {
                by: by.to_owned(),
                attempt: attempt.parse().unwrap(),
                fence: fence.parse().unwrap(),
                downstream: downstream.to_owned(),
            },
            ["end", by, attempt, owner] => {
                Self::End { by: by.to_owned(), attempt: attempt.parse().unwrap(), owner: owner.to_owned() }
            }
            _ => panic!("not a line of the ledger: `{line}`"),
        }
    }
}

impl App {
    /// A request with the key `k`.
    pub(crate) async fn post(&self, path: &str, body: &'static str) -> Reply {
        self.ask(path, "k", body).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.client.ask(http::Method::GET, path).send().await.text()
    }

    /// Sends it from a task of its own. `None`: the process died on it.
    pub(crate) fn send(&self, path: &str, body: &'static str) -> JoinHandle<Option<Reply>> {
        self.send_as("k", path, body)
    }

    /// The same with another key.
    pub(crate) fn send_as(&self, key: &str, path: &str, body: &'static str) -> JoinHandle<Option<Reply>> {
        let ask = self.ask(path, key, body);
        tokio::spawn(async move { ask.try_send().await.ok() })
    }

    /// Sends it again while the first is in flight, and gives back the first other answer.
    pub(crate) async fn retry(&self, path: &str, body: &'static str) -> Reply {
        self.retry_as("k", path, body).await
    }

    /// The same with another key.
    pub(crate) async fn retry_as(&self, key: &str, path: &str, body: &'static str) -> Reply {
        eventually_async("the lease is out", PATIENCE, async || {
            let reply = self.ask(path, key, body).send().await;
            let in_flight = reply.status == 409 && reply.text().contains("in-flight");
            (!in_flight).then_some(reply)
        })
        .await
    }

    fn ask(&self, path: &str, key: &str, body: &'static str) -> Ask {
        self.client.post(path).key(key).body(body)
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
