//! One host of a guarded service, for tests that need a process: `replica STORE`, where the store is `memory:`, `sqlite:PATH`,
//! `redis://..`, `postgres://..` or `tiered:postgres://..,redis://..`.
//!
//! It prints where it listens. `GET /hold`, `/release`, `/runs` and `/now` are for the test.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "what goes wrong here fails a test")]

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use idem_runtime::{
    Attempt, Idempotency, MemoryStore, PostgresStore, RedisStore, SqliteStore, Store, TieredStore, idempotent,
    store::redis::RedisCache,
};
use tests::service::{App, Call, Script};

#[idempotent(scope = "hosts", key = from_header, ttl = "30m", lease = "20m")]
async fn half_an_hour(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "hosts", key = from_header, ttl = "2s")]
async fn short(State(app): State<App>, call: Call) -> Response {
    app.run(call).await
}

#[idempotent(scope = "hosts", key = from_header, lease = "3s")]
async fn leased(State(app): State<App>, attempt: Attempt, call: Call) -> String {
    app.run(call).await;
    format!("{} {}", attempt.number(), attempt.fence())
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).expect("`memory:` or the URL of a store");
    let idempotency = Idempotency::builder_shared(open(&url).await).principal_from_header("x-account").build();
    let app = App { idempotency, script: Script::new() };
    let router = Router::new()
        .route("/half-an-hour", post(half_an_hour))
        .route("/short", post(short))
        .route("/leased", post(leased))
        .route("/hold", get(async |State(app): State<App>| app.script.hold()))
        .route("/release", get(async |State(app): State<App>| app.script.release()))
        .route("/runs", get(async |State(app): State<App>| app.script.runs().to_string()))
        .route(
            "/begun/{runs}",
            get(async |State(app): State<App>, Path(runs): Path<usize>| app.script.begun(runs).await),
        )
        .route("/now", get(now))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on {}", listener.local_addr().expect("an address"));
    std::io::stdout().flush().expect("standard output");
    axum::serve(listener, router).await.expect("a server");
}

/// A busy machine must not look like a lost server.
async fn open(url: &str) -> Arc<dyn Store> {
    const PATIENT: Duration = Duration::from_secs(10);
    if url == "memory:" {
        Arc::new(MemoryStore::new())
    } else if let Some(path) = url.strip_prefix("sqlite:") {
        let sqlite = SqliteStore::builder().lock_timeout(PATIENT);
        Arc::new(sqlite.open(path).await.expect("an open store"))
    } else if let Some(both) = url.strip_prefix("tiered:") {
        let (postgres, redis) = both.split_once(",redis").expect("two URLs");
        let cache = RedisCache::server(&format!("redis{redis}")).expect("a URL");
        Arc::new(TieredStore::new(open_postgres(postgres, PATIENT).await, cache))
    } else if url.starts_with("postgres:") {
        Arc::new(open_postgres(url, PATIENT).await)
    } else {
        Arc::new(RedisStore::builder().command_timeout(PATIENT).connect(url).await.expect("a connected store"))
    }
}

async fn open_postgres(url: &str, timeout: Duration) -> PostgresStore {
    PostgresStore::builder().command_timeout(timeout).connect(url).await.expect("a connected store")
}

/// The seconds since the Unix epoch, by the clock of this host.
async fn now() -> String {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs().to_string()
}
