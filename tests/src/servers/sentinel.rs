//! A master, its replica, and three Sentinels that watch them.

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::{
    RedisServer,
    ask::ask,
    eventually,
    process::{Process, Watchdog, free_port},
    redis::PID,
};

/// The set-up in which two of three Sentinels decide that the master is gone.
#[derive(Debug)]
pub struct SentinelTrio {
    /// The master, until it fails.
    pub master: RedisServer,
    /// The replica, until it is the master.
    pub replica: RedisServer,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    _process: Process,
    port: u16,
    _directory: TempDir,
    _watchdog: Watchdog,
}

const LIMIT: Duration = Duration::from_secs(60);

impl SentinelTrio {
    /// What the Sentinels call the master.
    pub const NAME: &str = "payments";

    /// A replica in step, and Sentinels that know it and each other.
    #[must_use]
    pub fn start() -> Self {
        let options = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::with(&options);
        let of = format!("127.0.0.1 {}", master.port());
        let replica = RedisServer::with(&[&options[..], &["--replicaof", &of]].concat());
        eventually("the replica is in step", LIMIT, || (replica.info("master_link_status") == "up").then_some(()));
        let sentinels = (0..3).map(|_| Sentinel::start(master.port())).collect();
        let trio = Self { master, replica, sentinels };
        for sentinel in &trio.sentinels {
            eventually("the sentinels know each other", LIMIT, || {
                let master = sentinel.master();
                let is = |field: &str, value: &str| master.chunks(2).any(|pair| pair == [field, value]);
                (is("num-other-sentinels", "2") && is("num-slaves", "1")).then_some(())
            });
        }
        trio
    }

    /// The URLs of the Sentinels.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port)).collect()
    }

    /// Waits until every Sentinel names the replica.
    pub fn wait_for_failover(&self) {
        let port = self.replica.port().to_string();
        eventually("the replica takes over", LIMIT, || {
            let named = self.sentinels.iter().all(|sentinel| {
                sentinel.master().chunks(2).any(|pair| pair[0] == "port" && pair.get(1) == Some(&port))
            });
            (named && self.replica.info("role") == "master").then_some(())
        });
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let file = directory.path().join("sentinel.conf");
        let (name, pid) = (SentinelTrio::NAME, directory.path().join(PID));
        let pid = pid.display();
        let text = format!(
            "port {port}\nbind 127.0.0.1\npidfile {pid}\nsentinel monitor {name} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 10000\n"
        );
        fs::write(&file, text).expect("the Sentinel's settings");
        let watchdog = Watchdog::over(directory.path(), PID, "KILL");
        let process =
            Process::start("redis-server", &[file.display().to_string(), "--sentinel".to_owned()], directory.path());
        let sentinel = Self { _process: process, port, _directory: directory, _watchdog: watchdog };
        eventually("the sentinel answers", LIMIT, || (!sentinel.master().is_empty()).then_some(()));
        sentinel
    }

    /// What it says of the master, empty if it says nothing.
    fn master(&self) -> Vec<String> {
        ask(self.port, None, &["SENTINEL", "MASTER", SentinelTrio::NAME]).unwrap_or_default()
    }
}
