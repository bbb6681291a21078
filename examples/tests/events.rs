//! The built example: real brokers, real stores, and workers that are killed for real.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tests::servers::{NatsServer, PostgresServer, RedisServer};
use tokio::process::Command;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(300);
const EVENTS: &str = "600";

/// What the example came to.
struct Run {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// The four combinations that must survive any kill.
mod chaos {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn redis_and_sqlite() {
        let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
        survives(&redis.url(), &sqlite(folder.path())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn redis_and_postgres() {
        let (redis, postgres) = (redis().await, postgres().await);
        survives(&redis.url(), &postgres.url()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nats_and_sqlite() {
        let (nats, folder) = (nats().await, tempfile::tempdir().unwrap());
        survives(&nats.url(), &sqlite(folder.path())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nats_and_postgres() {
        let (nats, postgres) = (nats().await, postgres().await);
        survives(&nats.url(), &postgres.url()).await;
    }

    async fn survives(broker: &str, store: &str) {
        // So many that workers are killed while they have something in hand.
        let run = run(&["--chaos", "--broker", broker, "--store", store, "--events", "2000", "--json"]).await;
        let report = run.report();
        assert_eq!((report["effects"].as_u64(), report["events_with_effect"].as_u64()), (Some(2000), Some(2000)));
        assert_eq!((report["published"].as_u64(), report["parked"].as_u64()), (Some(4000), Some(0)));
        assert!(report["kills"].as_u64() > Some(0), "{report}");
        assert!(run.status.success(), "{}", run.stderr);
    }
}

/// Every store under every broker, undisturbed: one line for each event.
mod calm {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn redis_and_every_store() {
        let redis = redis().await;
        every_store(&redis.url(), &redis).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nats_and_every_store() {
        let (nats, redis) = (nats().await, redis().await);
        every_store(&nats.url(), &redis).await;
    }

    async fn every_store(broker: &str, redis: &RedisServer) {
        let (postgres, folder) = (postgres().await, tempfile::tempdir().unwrap());
        let ledger = folder.path().join("ledger");
        let mut lines = 0;
        for store in [
            "memory:".to_owned(),
            sqlite(folder.path()),
            format!("{}/1", redis.url()),
            postgres.url(),
            format!("tiered:{},{}/2", postgres.url(), redis.url()),
        ] {
            let ledger_path = ledger.to_str().unwrap();
            let args = ["--broker", broker, "--store", &store, "--events", EVENTS, "--ledger", ledger_path, "--json"];
            let run = run(&args).await;
            let report = run.report();
            let counts = ["published", "delivered", "duplicates", "parked", "effects", "events_with_effect"];
            let counts = counts.map(|count| report[count].as_u64().unwrap());
            // In-flight duplicates come again: there may be more deliveries than messages, and never fewer.
            assert_eq!([counts[0], counts[2], counts[3], counts[4], counts[5]], [1200, 600, 0, 600, 600], "{store}");
            assert_eq!(counts[1], 1200 + report["redeliveries"].as_u64().unwrap(), "{store}: {report}");
            assert!(run.status.success(), "{store}: {}", run.stderr);
            lines += 600;
            assert_eq!(std::fs::read_to_string(&ledger).unwrap().lines().count(), lines, "{store}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_into_the_ledger_in_the_end() {
    let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
    let (ledger, store) = (folder.path().join("ledger"), sqlite(folder.path()));
    let ledger_path = ledger.to_str().unwrap();
    let args =
        ["--transactional", "--broker", &redis.url(), "--store", &store, "--events", "50", "--ledger", ledger_path];
    let run = run(&args).await;
    assert!(run.status.success(), "{}", run.stderr);
    assert!(run.stdout.contains("one for each event"), "{}", run.stdout);
    let lines = std::fs::read_to_string(&ledger).unwrap();
    let events: std::collections::HashSet<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].to_string()).collect();
    assert_eq!((lines.lines().count(), events.len()), (50, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_work_is_one_sentence_without_a_password() {
    for (args, says) in [
        (&["--chaos", "--store", "memory:"][..], "`--chaos` kills processes"),
        (&["--broker", "amqp://u:s3cret@host"], "`--broker` is none that there is"),
        (&["--store", "mongodb://u:s3cret@host"], "`--store` is none that there is"),
        (&["--transactional", "--ledger", "/dev/null", "--store", "memory:"], "`--transactional` needs a database"),
        (&["--store", "memory:", "--broker", "redis://:s3cret@127.0.0.1:1"], "cannot use the broker"),
    ] {
        let run = run(args).await;
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("s3cret"), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
}

impl Run {
    /// The report, which is alone on stdout.
    fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

async fn run(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    // What a developer has set is not meant for these.
    for name in ["IDEM_BROKER", "IDEM_STORE", "IDEM_LEDGER", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    // Where nothing is named, files are beside the working directory.
    let folder = tempfile::tempdir().unwrap();
    command.args(args).current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends by itself").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

async fn redis() -> RedisServer {
    tokio::task::spawn_blocking(RedisServer::start).await.unwrap()
}

async fn nats() -> NatsServer {
    tokio::task::spawn_blocking(NatsServer::start).await.unwrap()
}

async fn postgres() -> PostgresServer {
    tokio::task::spawn_blocking(PostgresServer::start).await.unwrap()
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("events.db").display())
}
