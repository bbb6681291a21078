//! A service for tests that kill it: guarded routes on a Redis store, and a ledger file of what the handlers did.
//!
//! `crash_app NAME REDIS_URL LEDGER` prints the address it listens on. A request whose body is `hold` stands in its handler
//! until `POST /open`. Each line of the ledger is one step of a handler, written before the handler goes on.

use std::{error::Error, fs::OpenOptions, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{Method, StatusCode};
use idem_runtime::{Attempt, Idempotency, KeySource, Operation, Policy, Principal, RedisStore, Settlement, idempotent};
use tests::gate::Gate;

/// What the service is told when it starts.
#[derive(Clone)]
struct App {
    idempotency: Idempotency,
    name: Arc<str>,
    ledger: Arc<PathBuf>,
    gate: Gate,
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(url), Some(ledger)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: crash_app NAME REDIS_URL LEDGER".into());
    };
    let idempotency = Idempotency::builder(RedisStore::connect(&url).await?).shared().build();
    let app = App { idempotency, name: name.into(), ledger: Arc::new(ledger.into()), gate: Gate::new() };
    let router = Router::new()
        .route("/retry", post(retry))
        .route("/refuse", post(refuse))
        .route("/open", post(open))
        .route("/settle", post(settle))
        .route("/drain", post(drain))
        .route("/stale", get(stale))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, router).await?)
}

#[idempotent(scope = "crash", key = from_header, lease = "1s")]
async fn retry(State(app): State<App>, attempt: Attempt, body: String) -> Result<String, Response> {
    charge(app, attempt, body).await
}

#[idempotent(scope = "crash", key = from_header, lease = "1s", financial)]
async fn refuse(State(app): State<App>, attempt: Attempt, body: String) -> Result<String, Response> {
    charge(app, attempt, body).await
}

async fn charge(app: App, attempt: Attempt, body: String) -> Result<String, Response> {
    let (number, fence, downstream) = (attempt.number(), attempt.fence(), attempt.downstream_key("charge"));
    app.write(&format!("begin {} {number} {fence} {downstream}", app.name))?;
    if body == "hold" {
        app.gate.pass().await;
    }
    let owner = match attempt.still_owner().await {
        Ok(owner) => owner.to_string(),
        Err(_) => "unanswered".to_owned(),
    };
    app.write(&format!("end {} {number} {owner}", app.name))?;
    Ok(format!("{} {number}", app.name))
}

/// Lets every handler go on, those to come too.
async fn open(State(app): State<App>) {
    app.gate.open();
}

/// An operator's word on the key `k` of `/refuse`: `executed` or `not-executed`.
async fn settle(State(app): State<App>, body: String) -> Result<String, Response> {
    const REFUSE: Policy = Policy::new("crash").key(&[KeySource::DEFAULT]);
    let settlement = match body.as_str() {
        "executed" => Settlement::responded(http::Response::new("found out".into())),
        _ => Settlement::not_executed(),
    };
    let operation = Operation::new(REFUSE, Principal::SHARED, "k").endpoint(&Method::POST, "/refuse");
    let resolved = app.idempotency.resolve(&operation, settlement).await.map_err(failed)?;
    Ok(format!("{resolved:?}"))
}

async fn drain(State(app): State<App>) -> String {
    format!("{:?}", app.idempotency.drain(Duration::from_secs(20)).await)
}

async fn stale(State(app): State<App>) -> String {
    app.idempotency.metrics().stale_owners.to_string()
}

impl App {
    fn write(&self, line: &str) -> Result<(), Response> {
        let mut file = OpenOptions::new().create(true).append(true).open(&*self.ledger).map_err(failed)?;
        // One write: two processes do not mix their lines.
        file.write_all(format!("{line}\n").as_bytes()).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
