//! The built example: real brokers, real stores, and workers that are killed for real.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tests::servers::{NatsServer, PostgresServer, RedisServer, eventually_async};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

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
        (
            &["--store", "memory:", "--broker", "redis://:s3cret@127.0.0.1:1"],
            "cannot use the broker: redis, 127.0.0.1:1: ",
        ),
        (
            &["--store", "memory:", "--broker", "nats://u:s3cret@127.0.0.1:1"],
            "cannot use the broker: nats, 127.0.0.1:1: ",
        ),
    ] {
        let run = run(args).await;
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("s3cret"), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_of_somebody_else_is_refused_and_left_as_it_was() {
    const LETTER: &str = "Dear ledger,";
    let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
    let ledger = folder.path().join("letter.txt");
    std::fs::write(&ledger, LETTER).unwrap();
    let store = sqlite(folder.path());
    // Where it gets every effect, and where it gets the rows in the end.
    for (store, flag) in [("memory:", None), (&*store, Some("--transactional"))] {
        let mut command = command(&["--broker", &redis.url(), "--store", store, "--ledger", ledger.to_str().unwrap()]);
        let run = finish(command.args(flag)).await;
        assert_eq!(run.status.code(), Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("letter.txt`: line 1 was not written by this program"), "{}", run.stderr);
        assert_eq!(std::fs::read_to_string(&ledger).unwrap(), LETTER);
    }
    assert_eq!(redis.run::<u64>(&["DBSIZE"]), 0, "nothing was made at the broker");
}

/// Where none is named, there is one for the run, if there is a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_of_its_own_is_named_and_is_not_left_behind_in_vain() {
    let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
    let run = async |broker: &str| {
        let mut command = command(&["--json", "--store", "memory:", "--events", "50", "--broker", broker]);
        finish(command.env("TMPDIR", folder.path())).await
    };
    let refused = run("redis://127.0.0.1:1").await;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let report = run(&redis.url()).await.report();
    let lines = std::fs::read_to_string(report["ledger"].as_str().expect("it is named")).unwrap();
    assert_eq!(lines.lines().count(), 50);
}

/// As an operator's `kill -9` does it, or a machine that is out of memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_by_hand_is_replaced() {
    let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
    let store = sqlite(folder.path());
    let args = ["--broker", &redis.url(), "--store", &store, "--events", EVENTS, "--workers", "2", "--json"];
    let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let worker = eventually_async("a worker", PATIENCE, async || workers(&child).first().copied()).await;
    kill("-KILL", &worker.to_string()).await;
    let run = output(child).await;
    assert!(run.status.success(), "{}", run.stderr);
    let report = run.report();
    assert_eq!((&report["effects"], &report["kills"]), (&600.into(), &1.into()), "{report}");
}

/// What cannot work is not tried for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_whenever_it_is_started_ends_the_run() {
    let (redis, folder) = (redis().await, tempfile::tempdir().unwrap());
    let store = sqlite(folder.path());
    let broker = format!("{}/1", redis.url());
    let args = ["--broker", &broker, "--store", &store, "--events", "1000000", "--workers", "1"];
    let child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let worker = eventually_async("a worker", PATIENCE, async || workers(&child).first().copied()).await;
    // Who is connected stays so, and nobody else comes in.
    redis.run::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    kill("-KILL", &worker.to_string()).await;
    let run = output(child).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("a worker ended by itself, and so did the one in its place"), "{}", run.stderr);
}

/// A signal to it alone, and Ctrl-C, which reaches every process that a terminal started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_leaves_nothing_at_its_broker() {
    let (redis, nats, folder) = (redis().await, nats().await, tempfile::tempdir().unwrap());
    let store = sqlite(folder.path());
    for (broker, signal, group, code) in
        [(redis.url(), "-TERM", "", 143), (redis.url(), "-INT", "-", 130), (nats.url(), "-TERM", "", 143)]
    {
        let mut command = command(&["--broker", &broker, "--store", &store, "--events", "1000000"]);
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let id = child.id().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let shown = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("messages acknowledged") {
                    return;
                }
            }
            panic!("it ended");
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap();
        kill(signal, &format!("{group}{id}")).await;
        let mut stderr = String::new();
        tokio::time::timeout(PATIENCE, lines.into_inner().read_to_string(&mut stderr)).await.unwrap().unwrap();
        let run = Run { stderr, ..output(child).await };
        assert_eq!(run.status.code(), Some(code), "{}", run.stderr);
        assert!(run.stderr.contains("before the end: the stream is deleted"), "{}", run.stderr);
        assert!(run.stdout.is_empty(), "no report: {}", run.stdout);
    }
    assert_eq!(redis.run::<u64>(&["DBSIZE"]), 0);
    let client = async_nats::connect(nats.url()).await.unwrap();
    let streams = client.request("$JS.API.STREAM.NAMES", "".into()).await.unwrap();
    let streams: Value = serde_json::from_slice(&streams.payload).unwrap();
    assert_eq!(streams["total"], 0, "{streams}");
}

/// The processes that this one started.
fn workers(parent: &Child) -> Vec<u32> {
    let parent = format!("PPid:\t{}\n", parent.id().unwrap_or_default());
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let status = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    processes.filter(|id| status(id).contains(&parent)).collect()
}

async fn kill(signal: &str, whom: &str) {
    assert!(Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, whom]).status().await.unwrap().success());
}

impl Run {
    /// The report, which is alone on stdout.
    fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

async fn run(args: &[&str]) -> Run {
    // Where nothing is named, files are beside the working directory.
    let folder = tempfile::tempdir().unwrap();
    finish(command(args).current_dir(folder.path())).await
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
    // What a developer has set is not meant for these.
    for name in ["IDEM_BROKER", "IDEM_STORE", "IDEM_LEDGER", "RUST_BACKTRACE"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn finish(command: &mut Command) -> Run {
    output(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).await
}

async fn output(child: Child) -> Run {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends by itself").unwrap();
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
