//! How the built service starts: with nothing said, again after a kill, and not at all.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod support;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};

use axum::http::StatusCode;
use serde_json::json;
use sqlx::{PgPool, SqlitePool};
use tests::servers::{PostgresServer, RedisServer, eventually_async, free_port};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

use self::support::{Ledger, PATIENCE, Place, Service, bare_command, card, within};

/// The second command of a newcomer after the first one: it is killed, started again, and knows what it did.
#[tokio::test]
async fn with_nothing_said_it_keeps_its_answers_beside_it_and_survives_a_kill() {
    let (folder, log) = (tempfile::tempdir().expect("a folder"), Ledger::new());
    let start = async || {
        let mut command = bare_command();
        command.current_dir(folder.path());
        Service::start_with(command, &log).await
    };
    let service = start().await;
    assert_eq!(service.places, ["store: sqlite, payments.db", "ledger: payments.db.ledger"]);
    let payment = service.post("/payments", Some("k"), &card("tok_visa")).await;
    let order = json!({ "from": "alice", "to": "bob", "amount": 1 });
    let transfer = service.post("/transfers", Some("k"), &order).await;
    assert_eq!((payment.status, transfer.status), (StatusCode::CREATED, StatusCode::CREATED));
    let (payments, accounts) = (service.get("/payments").await, service.get("/accounts").await);
    service.kill().await;
    for file in ["payments.db", "payments.db.ledger"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }

    let service = start().await;
    for (path, body, first) in [("/payments", &card("tok_visa"), &payment), ("/transfers", &order, &transfer)] {
        let retry = service.post(path, Some("k"), body).await;
        assert!(retry.replayed(), "{path}");
        assert_eq!((retry.status, &retry.bytes), (first.status, &first.bytes), "{path}");
    }
    assert_eq!(service.get("/payments").await.bytes, payments.bytes, "what is replayed is listed");
    assert_eq!(service.get("/accounts").await.bytes, accounts.bytes, "and nothing moved twice");
}

#[tokio::test]
async fn it_names_its_store_without_a_password() {
    let postgres = Place::postgres();
    let with_password = postgres.url.replace("//postgres@", "//postgres:s3cret@");
    let tiered = Place::tiered();
    for (url, says) in [
        (Place::memory().url, "store: memory, forgotten on exit"),
        (with_password, "store: postgres, 127.0.0.1:"),
        (tiered.url.clone(), "store: postgres, 127.0.0.1:"),
    ] {
        let service = Service::start(&url, &Ledger::new()).await;
        let said = service.places.join(" ");
        assert!(said.starts_with(says) && !said.contains("s3cret"), "{said}");
    }
}

/// One line on stderr, no secret in it, and 2.
async fn assert_refused(output: Output, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(says), "no `{says}`: {stderr}");
    assert!(!stderr.contains("s3cret") && !stderr.contains("panicked"), "{stderr}");
    assert!(output.stdout.is_empty(), "it listens");
    // Those of clap say on further lines how it is used.
    assert!(stderr.trim().lines().count() == 1 || stderr.contains("--help"), "{stderr}");
}

async fn run(mut command: Command, arguments: &[&str]) -> Output {
    within(command.args(arguments).stderr(Stdio::piped()).output()).await.expect("it starts")
}

async fn assert_store_refused(url: &str, says: &str) {
    assert_refused(run(bare_command(), &["--store", url]).await, says).await;
}

#[tokio::test]
async fn options_that_do_not_work_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("missing").join("ledger");
    let store = format!("sqlite:{}", folder.path().join("payments.db").display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (arguments, says) in [
        (vec!["--store", "mongodb://user:s3cret@host"], "`--store` names no store"),
        (vec!["--store", "memory"], "`--store` names no store"),
        (vec!["--store", "sqlite:"], "`--store` names no store"),
        (vec!["--store", "sqlite://pay.db?mode=ro"], "`sqlite:` takes no parameters"),
        (vec!["--store", "tiered:postgres://user:s3cret@host/db"], "`--store` names no store"),
        (vec!["--store", &store, "--listen", "nowhere"], "cannot listen"),
        (vec!["--store", &store, "--listen", &taken], "cannot listen"),
        (vec!["--store", &store, "--ledger", nowhere.to_str().expect("text")], "cannot open the ledger"),
        (vec!["--colour", "blue"], "--colour"),
    ] {
        assert_refused(run(bare_command(), &arguments).await, says).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_refused() {
    for url in [
        "redis://:s3cret@127.0.0.1:1",
        "redis://:s3cret@127.0.0.1:1/x",
        "postgres://user:s3cret@127.0.0.1:1/db",
        "postgres://user:s3cret@[bad/db",
        "tiered:postgres://user:s3cret@127.0.0.1:1/db,redis://:s3cret@127.0.0.1:1",
    ] {
        assert_store_refused(url, "cannot use the store: ").await;
    }
    let nobody = "postgres://user:s3cret@nobody.invalid/db";
    assert_store_refused(nobody, "postgres, nobody.invalid/db: ").await;
    // What the system says of such a name depends on it, and it says something.
    let output = run(bare_command(), &["--store", nobody]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("lookup") && !stderr.contains("uncategorized"), "{stderr}");
}

/// Answers whatever it is sent as a web server does.
async fn web_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    port
}

#[tokio::test]
async fn a_redis_that_will_not_do_is_refused() {
    let redis = RedisServer::on(free_port(), &[], Some("s3cret"));
    let (web, port) = (web_server().await, redis.port());
    let postgres = Place::postgres().url;
    for (url, says) in [
        (format!("redis://:s3cret@127.0.0.1:{web}"), "Parse error"),
        (format!("redis://:s3cret@127.0.0.1:{port}/99"), "the store is set up wrong"),
        // Of these there are only copies in Redis, and none ever.
        (format!("tiered:{postgres},redis://:s3cret@127.0.0.1:{web}"), "Parse error"),
        (format!("tiered:{postgres},redis://:not-s3cret@127.0.0.1:{port}"), "authentication failed"),
        (format!("tiered:{postgres},redis://127.0.0.1:{port}"), "NOAUTH"),
        (format!("tiered:{postgres},redis://:s3cret@127.0.0.1:{port}/99"), "DB index is out of range"),
    ] {
        assert_store_refused(&url, says).await;
    }
}

/// Only the database decides: without Redis it is slower, and as right, and says so.
#[tokio::test]
async fn a_tiered_store_starts_without_its_redis() {
    let (place, ledger) = (Place::postgres(), Ledger::new());
    let service = Service::start(&format!("tiered:{},redis://127.0.0.1:1", place.url), &ledger).await;
    let log = ledger.log();
    assert!(log.contains("redis, 127.0.0.1:1, cannot be used") && log.contains("refused"), "{log}");
    let first = service.post("/payments", Some("k"), &card("tok_visa")).await;
    let retry = service.post("/payments", Some("k"), &card("tok_visa")).await;
    assert_eq!((first.status, retry.replayed()), (StatusCode::CREATED, true));
    assert_eq!(retry.bytes, first.bytes);
    let given_up = async || {
        service.post("/payments", Some("k"), &card("tok_visa")).await;
        ledger.log().lines().find(|line| line.contains("redis does not answer")).map(str::to_owned)
    };
    let said = eventually_async("a warning", PATIENCE, given_up).await;
    assert!(said.contains("127.0.0.1:1") && said.contains("refused"), "place and cause: {said}");
}

/// A pool would wait half a minute for a server that refuses each connection.
#[tokio::test]
async fn without_its_database_it_says_so_at_once() {
    let (mut server, ledger) = (PostgresServer::start(), Ledger::new());
    let service = Service::start(&server.url(), &ledger).await;
    assert_eq!(service.get("/accounts").await.status, StatusCode::OK);
    server.kill();
    let asked = std::time::Instant::now();
    let answer = service.get("/accounts").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(asked.elapsed() < std::time::Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn tables_that_are_there_are_no_news() {
    let (place, ledger) = (Place::postgres(), Ledger::new());
    for _ in 0..2 {
        drop(Service::start(&place.url, &ledger).await);
    }
    assert!(!ledger.log().contains("already exists"), "{}", ledger.log());
}

/// Half of a head may have become a charge: whoever stops the service is told that it was cut off.
#[tokio::test]
async fn who_does_not_finish_a_request_makes_the_end_a_failure() {
    let ledger = Ledger::new();
    let service = Service::start("memory:", &ledger).await;
    let mut connection = TcpStream::connect(service.address()).await.expect("connected");
    connection.write_all(b"POST /payments HTTP/1.1\r\nhost: t").await.expect("sent");
    // Whoever has an answer came later, so the service knows of the one before.
    assert_eq!(service.get("/payments").await.status, StatusCode::OK);
    service.terminate().await;
    assert_eq!(service.exit().await.code(), Some(1));
    assert!(ledger.log().contains("error: some callers did not finish in time"), "{}", ledger.log());
}

#[tokio::test]
async fn a_postgres_that_will_not_do_is_refused() {
    let server = PostgresServer::with(&["default_transaction_read_only=on"]);
    assert_store_refused(&server.url(), "read-only").await;
    assert_store_refused(&server.url_of("secured:s3cret"), "cannot use the store: ").await;

    let Place { url, .. } = Place::postgres();
    drop(Service::start(&url, &Ledger::new()).await);
    let pool = PgPool::connect(&url).await.expect("a pool");
    sqlx::query("UPDATE idem_records_schema SET version = 2").execute(&pool).await.expect("another version");
    assert_store_refused(&url, "of layout 2").await;
}

#[tokio::test]
async fn a_file_that_will_not_do_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let url = |name: &str| format!("sqlite:{}", path(name).display());
    assert_store_refused(&url("missing/payments.db"), "is not a directory").await;
    assert_store_refused(&format!("sqlite:{}", folder.path().display()), "is a directory").await;
    std::fs::write(path("letter.txt"), "Dear database,").expect("a file");
    assert_store_refused(&url("letter.txt"), "not a SQLite database").await;

    drop(Service::start(&url("payments.db"), &Ledger::new()).await);
    let pool = SqlitePool::connect(&url("payments.db")).await.expect("a pool");
    sqlx::query("UPDATE idem_schema SET version = 2").execute(&pool).await.expect("another version");
    assert_store_refused(&url("payments.db"), "version").await;
    sqlx::query("UPDATE idem_schema SET version = 1").execute(&pool).await.expect("the right version");
    pool.close().await;

    set_mode(folder.path(), 0o755);
    set_mode(&path("payments.db"), 0o444);
    let refused = run(as_nobody(bare_command()), &["--store", &url("payments.db")]).await;
    assert_refused(refused, "cannot be written to").await;
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("other permissions");
}

/// The owner of a machine may write everywhere: the same command as somebody who may not.
fn as_nobody(command: Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(command.as_std().get_program());
    for (name, value) in command.as_std().get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.stdin(Stdio::null()).kill_on_drop(true);
    other
}
