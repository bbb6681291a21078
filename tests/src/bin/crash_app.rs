//! A service for tests that kill it: guarded routes on any store, and a note of everything the handlers did.
//!
//! `crash_app NAME STORE LEDGER [patient]` prints the address it listens on. A handler under a lease notes each of its steps in the
//! file LEDGER before it goes on, with the body of the request; one in a transaction writes a row. A request whose body begins
//! with `hold` stands in its handler until `POST /open`, and again after `POST /close`; one whose body ends with `-fails-NAME` is
//! answered 500 by the process of that name. `POST /stop` names a step of [`tests::stops`] at which everybody stands still.

use std::{error::Error, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRef, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{Method, StatusCode};
use idem_runtime::{
    Attempt, Idempotency, KeySource, Operation, Policy, PostgresStore, Principal, RedisStore, Settlement, SqliteStore,
    Store, TieredStore, Tx, Unsettled, idempotent, store::redis::RedisCache,
};
use sqlx::{PgPool, SqlitePool};
use tests::{
    gate::Gate,
    ledger,
    stops::{Stopping, Stops},
};

/// What the service is told when it starts.
#[derive(Clone)]
struct App {
    idempotency: Idempotency,
    name: Arc<str>,
    ledger: Ledger,
    gate: Gate,
    stops: Stops,
}

#[derive(Clone)]
struct Ledger(Arc<PathBuf>);

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.idempotency.clone()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(url), Some(ledger)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: crash_app NAME STORE LEDGER [patient]".into());
    };
    // A busy machine must not look like a store in trouble, unless that is what is tested.
    let timeout = if args.next().is_some() { Duration::from_secs(20) } else { Duration::from_millis(500) };
    let start = Start { name: name.into(), ledger: Ledger(Arc::new(ledger.into())), stops: Stops::default() };
    let router = match url.split_once(':') {
        Some(("sqlite", path)) => {
            let store = SqliteStore::builder().lock_timeout(timeout.max(Duration::from_secs(5))).open(path).await?;
            let (pool, store) = (store.pool().clone(), Stopping::new(store, start.stops.clone()));
            let app = start.on(store.clone());
            app.routes().merge(sqlite::routes(app, store, pool).await?)
        }
        Some(("postgres", _)) => {
            PostgresStore::migrate(&url).await?;
            let store = PostgresStore::builder().command_timeout(timeout).connect(&url).await?;
            let store = Stopping::new(store, start.stops.clone());
            let app = start.on(store.clone());
            app.routes().merge(postgres::routes(app, store, PgPool::connect(&url).await?).await?)
        }
        Some(("tiered", both)) => {
            let (postgres, redis) = both.split_once(",redis").ok_or("`tiered:` takes two URLs")?;
            PostgresStore::migrate(postgres).await?;
            let authority = PostgresStore::builder().command_timeout(timeout).connect(postgres).await?;
            let store = TieredStore::new(authority, RedisCache::server(&format!("redis{redis}"))?);
            let store = Stopping::new(store, start.stops.clone());
            let app = start.on(store.clone());
            app.routes().merge(tiered::routes(app, store, PgPool::connect(postgres).await?).await?)
        }
        Some(("redis", _)) => {
            let store = RedisStore::builder().command_timeout(timeout).connect(&url).await?;
            start.on(Stopping::new(store, start.stops.clone())).routes()
        }
        _ => {
            return Err(
                "STORE is `sqlite:PATH`, `redis://..`, `postgres://..` or `tiered:postgres://..,redis://..`".into()
            );
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, router).await?)
}

struct Start {
    name: Arc<str>,
    ledger: Ledger,
    stops: Stops,
}

impl Start {
    fn on(&self, store: impl Store) -> App {
        let (name, ledger, stops) = (self.name.clone(), self.ledger.clone(), self.stops.clone());
        let idempotency = Idempotency::builder(store).shared().context(ledger.clone()).build();
        App { idempotency, name, ledger, gate: Gate::new(), stops }
    }
}

impl App {
    fn routes(&self) -> Router {
        Router::new()
            .route("/retry", post(retry))
            .route("/refuse", post(refuse))
            .route("/recover", post(recover))
            .route("/open", post(open))
            .route("/close", post(close))
            .route("/stop", post(stop))
            .route("/settle", post(settle))
            .route("/drain", post(drain))
            .route("/stale", get(stale))
            .with_state(self.clone())
    }
}

#[idempotent(scope = "crash", key = from_header, lease = "2s")]
async fn retry(State(app): State<App>, attempt: Attempt, body: String) -> Result<String, Response> {
    charge(app, attempt, body).await
}

#[idempotent(scope = "crash", key = from_header, lease = "2s", financial)]
async fn refuse(State(app): State<App>, attempt: Attempt, body: String) -> Result<String, Response> {
    charge(app, attempt, body).await
}

#[idempotent(scope = "crash", key = from_header, lease = "2s", financial, on_abandoned = recover(look_it_up))]
async fn recover(State(app): State<App>, attempt: Attempt, body: String) -> Result<String, Response> {
    charge(app, attempt, body).await
}

async fn charge(app: App, attempt: Attempt, body: String) -> Result<String, Response> {
    let (number, fence, downstream) = (attempt.number(), attempt.fence(), attempt.downstream_key("charge"));
    app.ledger.write(&format!("begin {} {number} {fence} {downstream} {body}", app.name))?;
    app.stops.at("begun").await;
    if body.starts_with("hold") {
        app.gate.pass().await;
    }
    let owner = match attempt.still_owner().await {
        Ok(owner) => owner.to_string(),
        Err(_) => "unanswered".to_owned(),
    };
    app.ledger.write(&format!("end {} {number} {owner} {downstream} {body}", app.name))?;
    app.stops.at("done").await;
    if body.ends_with(&format!("-fails-{}", app.name)) {
        return Err(failed("as it is told to"));
    }
    Ok(format!("{} {number}", app.name))
}

/// What the ledger says of a handler that is gone. One that began and did not end may have done anything.
async fn look_it_up(unsettled: Unsettled) -> Option<Settlement> {
    let lines = ledger::lines(&unsettled.context::<Ledger>()?.0);
    let downstream = unsettled.attempt().downstream_key("charge");
    let mut lines = lines.iter().filter(|line| line.contains(&downstream)).peekable();
    if lines.peek().is_none() {
        return Some(Settlement::not_executed());
    }
    let end = lines.find_map(|line| line.strip_prefix("end "))?;
    let answer: Vec<&str> = end.split(' ').take(2).collect();
    Some(Settlement::responded(http::Response::new(answer.join(" ").into())))
}

/// Lets every handler go on, those to come too.
async fn open(State(app): State<App>) {
    app.gate.open();
}

/// Lets no handler go on, of those to come.
async fn close(State(app): State<App>) {
    app.gate.close();
}

async fn stop(State(app): State<App>, step: String) {
    app.stops.stop_at(&step);
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

impl Ledger {
    fn write(&self, line: &str) -> Result<(), Response> {
        ledger::append(&self.0, line).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

/// Nothing keeps a second row of one operation out, so that it would be seen.
const EFFECTS: &str = "CREATE TABLE IF NOT EXISTS effects (body TEXT, run TEXT)";
const EFFECT: &str = "INSERT INTO effects VALUES ($1, $2)";
const ALL: &str = "SELECT body, run FROM effects";

/// One handler and the list of what it did, for one database.
macro_rules! transacting {
    ($module:ident, $store:ty, $pool:ty) => {
        mod $module {
            use super::*;

            #[derive(Clone, FromRef)]
            struct Bank {
                idempotency: Idempotency,
                app: App,
                store: Stopping<$store>,
                pool: $pool,
            }

            pub(super) async fn routes(app: App, store: Stopping<$store>, pool: $pool) -> Result<Router, sqlx::Error> {
                sqlx::query(EFFECTS).execute(&pool).await?;
                let bank = Bank { idempotency: app.idempotency.clone(), app, store, pool };
                Ok(Router::new().route("/transact", post(transact)).route("/effects", get(effects)).with_state(bank))
            }

            #[idempotent(scope = "crash", key = from_header, financial, transaction)]
            async fn transact(
                State(app): State<App>,
                mut tx: Tx<Stopping<$store>>,
                attempt: Attempt,
                body: String,
            ) -> Result<String, Response> {
                let run = format!("{} {}", app.name, attempt.number());
                app.stops.at("begun").await;
                if body.starts_with("hold") {
                    app.gate.pass().await;
                }
                let insert = sqlx::query(EFFECT).bind(body).bind(&run);
                insert.execute(tx.connection()).await.map_err(failed)?;
                app.stops.at("done").await;
                Ok(run)
            }

            /// Every row there is.
            async fn effects(State(pool): State<$pool>) -> Result<Json<Vec<(String, String)>>, Response> {
                sqlx::query_as(ALL).fetch_all(&pool).await.map(Json).map_err(failed)
            }
        }
    };
}

transacting!(sqlite, SqliteStore, SqlitePool);
transacting!(postgres, PostgresStore, PgPool);
transacting!(tiered, TieredStore<PostgresStore>, PgPool);
