//! A service whose handlers write to a ledger in their transaction, on SQLite and on Postgres.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRef, FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::FutureExt;
use http::{StatusCode, request::Parts};
use idem_runtime::{
    Attempt, Idempotency, IdempotencySetup, PostgresStore, SqliteStore, Tx, idempotent,
    store::{
        Transactions,
        postgres::{Isolation, driver as sqlx},
    },
};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use tempfile::TempDir;
use tests::{
    backend::{Fixture, Postgres},
    client::{Ask, Client},
    service::{Call, Script},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// The state of the router.
#[derive(Clone)]
pub(crate) struct App<D> {
    pub(crate) idempotency: Idempotency,
    pub(crate) store: D,
    pub(crate) script: Script,
    leaks: mpsc::UnboundedSender<Box<dyn std::any::Any + Send>>,
}

impl<D> FromRef<App<D>> for Idempotency {
    fn from_ref(app: &App<D>) -> Self {
        app.idempotency.clone()
    }
}

/// What the functions below know of a database.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Arc<TempDir>, SqlitePool),
    Postgres(Arc<Postgres>, PgPool),
}

/// One process of the service, as far as a test in one process can tell.
pub(crate) struct Bank {
    pub(crate) client: Client,
    pub(crate) idempotency: Idempotency,
    pub(crate) script: Script,
    /// What handlers kept that they should have given back.
    pub(crate) leaked: mpsc::UnboundedReceiver<Box<dyn std::any::Any + Send>>,
    server: JoinHandle<()>,
}

/// Whoever may call at all.
pub(crate) struct Login;

impl<S: Send + Sync> FromRequestParts<S> for Login {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let valid = parts.headers.get("authorization").is_some_and(|token| token == "valid");
        if valid { Ok(Self) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

macro_rules! handlers {
    ($store:ident, $routes:ident) => {
        impl FromRef<App<$store>> for $store {
            fn from_ref(app: &App<$store>) -> Self {
                app.store.clone()
            }
        }

        pub(crate) fn $routes() -> Router<App<$store>> {
            async fn book(tx: &mut Tx<$store>, app: &App<$store>, call: Call) -> Response {
                let entry = String::from_utf8_lossy(&call.body).into_owned();
                let written = sqlx::query("INSERT INTO ledger (entry) VALUES ($1)").bind(entry).execute(tx).await;
                assert_eq!(written.expect("a written entry").rows_affected(), 1);
                app.script.run(call).await
            }

            #[idempotent(scope = "transfers", key = from_header, financial, transaction)]
            async fn transfer(State(app): State<App<$store>>, mut tx: Tx<$store>, call: Call) -> Response {
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction, on_conflict = wait("50s"))]
            async fn patient(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction, ttl = "2s")]
            async fn brief(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction, store = definitive)]
            async fn definitive(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", transaction)]
            async fn optional(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction)]
            async fn typed(
                _: Login,
                mut tx: Tx<$store>,
                State(app): State<App<$store>>,
                Json(cents): Json<u64>,
            ) -> Response {
                let call = Call { body: cents.to_string().into(), ..Call::default() };
                book(&mut tx, &app, call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction)]
            async fn attempted(attempt: Attempt, mut tx: Tx<$store>) -> String {
                let before = attempt.still_owner().await.expect("an answer");
                let written =
                    sqlx::query("INSERT INTO ledger (entry) VALUES ('attempt')").execute(tx.connection()).await;
                written.expect("a written entry");
                let fence = attempt.fence().get() > 0;
                format!("{} {before} {fence} {}", attempt.number(), attempt.downstream_key("charge"))
            }

            /// Lets go of a transaction inside its own as that begins, which ends its own, and writes as if nothing were.
            #[idempotent(scope = "transfers", key = from_header, transaction)]
            async fn ending(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                // One that has begun at once is no more than a savepoint that is undone.
                while sqlx::Connection::begin(tx.connection()).now_or_never().is_some() {}
                let written = sqlx::query("INSERT INTO ledger (entry) VALUES ('alone')").execute(&mut tx).await;
                assert!(written.is_err(), "written without its record");
                app.script.run(call).await
            }

            #[idempotent(scope = "transfers", key = from_header, transaction)]
            async fn leaking(mut tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                let answer = book(&mut tx, &app, call).await;
                if app.script.runs() == 1 {
                    app.leaks.send(Box::new(tx)).expect("somebody takes it");
                }
                answer
            }

            #[idempotent(scope = "transfers", key = from_header, transaction)]
            async fn leaking_unused(tx: Tx<$store>, State(app): State<App<$store>>, call: Call) -> Response {
                if app.script.runs() == 0 {
                    app.leaks.send(Box::new(tx)).expect("somebody takes it");
                }
                app.script.run(call).await
            }

            Router::new()
                .route("/transfer", post(transfer))
                .route("/patient", post(patient))
                .route("/brief", post(brief))
                .route("/typed", post(typed).layer(DefaultBodyLimit::max(100)))
                .route("/definitive", post(definitive))
                .route("/optional", post(optional))
                .route("/attempted", post(attempted))
                .route("/ending", post(ending))
                .route("/leaking", post(leaking))
                .route("/leaking-unused", post(leaking_unused))
        }
    };
}

handlers!(SqliteStore, sqlite_routes);
handlers!(PostgresStore, postgres_routes);

impl Database {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(directory.path().join("bank.db")).await.expect("a store");
        let made = sqlx::query("CREATE TABLE ledger (entry TEXT NOT NULL)").execute(store.pool()).await;
        made.expect("a table");
        Self::Sqlite(Arc::new(directory), store.pool().clone())
    }

    pub(crate) async fn postgres() -> Self {
        let postgres = Postgres::start().await;
        let pool = PgPool::connect_lazy(&postgres.url()).expect("a URL");
        let made =
            sqlx::query(AssertSqlSafe(format!("CREATE TABLE {}.ledger (entry TEXT NOT NULL)", postgres.schema())));
        made.execute(&pool).await.expect("a table");
        Self::Postgres(Arc::new(postgres), pool)
    }

    /// How many entries the ledger has.
    pub(crate) async fn entries(&self) -> i64 {
        self.count("ledger").await
    }

    /// How many records there are.
    pub(crate) async fn records(&self) -> i64 {
        match self {
            Self::Sqlite(..) => self.count("idem_records").await,
            Self::Postgres(postgres, _) => i64::try_from(postgres.records().await).expect("a number"),
        }
    }

    /// As a version that is not out yet leaves them.
    pub(crate) async fn make_records_unreadable(&self) {
        let changed = match self {
            Self::Sqlite(_, pool) => sqlx::query("UPDATE idem_records SET format = 2")
                .execute(pool)
                .await
                .expect("an update")
                .rows_affected(),
            Self::Postgres(postgres, pool) => {
                let update = format!("UPDATE {}.idem_records SET format = 2", postgres.schema());
                sqlx::query(AssertSqlSafe(update)).execute(pool).await.expect("an update").rows_affected()
            }
        };
        assert!(changed > 0, "there are records");
    }

    async fn count(&self, table: &str) -> i64 {
        let count = match self {
            Self::Sqlite(_, pool) => {
                sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(pool).await
            }
            Self::Postgres(postgres, pool) => {
                let count = format!("SELECT count(*) FROM {}.{table}", postgres.schema());
                sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool).await
            }
        };
        count.expect("a number")
    }

    /// A store on this file, whose transactions wait so long for each other.
    pub(crate) async fn sqlite_store(directory: &TempDir, lock_timeout: Duration) -> SqliteStore {
        let builder = SqliteStore::builder().lock_timeout(lock_timeout);
        builder.open(directory.path().join("bank.db")).await.expect("a store")
    }

    /// A store whose transactions wait so long for each other, and see the schema of this test first.
    pub(crate) async fn postgres_store(
        postgres: &Postgres,
        lock_timeout: Duration,
        isolation: Isolation,
    ) -> PostgresStore {
        let options: sqlx::postgres::PgConnectOptions = postgres.url().parse().expect("a URL");
        let options = options.options([("search_path", postgres.schema())]);
        let builder = postgres.builder().lock_timeout(lock_timeout).isolation(isolation).max_transactions(5);
        builder.acquire_timeout(Duration::from_secs(60)).connect_with(options).await.expect("a store")
    }

    /// A process of the service that starts on this runtime.
    pub(crate) async fn bank(&self) -> Bank {
        self.bank_with(Duration::from_secs(30), |setup| setup).await
    }

    pub(crate) async fn bank_with(
        &self,
        lock_timeout: Duration,
        build: impl FnOnce(IdempotencySetup) -> IdempotencySetup,
    ) -> Bank {
        match self {
            Self::Sqlite(directory, _) => {
                serve(Self::sqlite_store(directory, lock_timeout).await, build, sqlite_routes()).await
            }
            Self::Postgres(postgres, _) => {
                let store = Self::postgres_store(postgres, lock_timeout, Isolation::ReadCommitted).await;
                serve(store, build, postgres_routes()).await
            }
        }
    }
}

/// Serves these routes.
pub(crate) async fn serve<D: Transactions>(
    store: D,
    build: impl FnOnce(IdempotencySetup) -> IdempotencySetup,
    routes: Router<App<D>>,
) -> Bank {
    let idempotency = build(Idempotency::builder(store.clone()).principal_from_header("x-account")).build();
    let script = Script::new();
    let (leaks, leaked) = mpsc::unbounded_channel();
    let app = App { idempotency: idempotency.clone(), store, script: script.clone(), leaks };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = Client::new(listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move { axum::serve(listener, routes.with_state(app)).await.expect("a server") });
    Bank { client, idempotency, script, leaked, server }
}

impl Bank {
    /// A POST of account `acct_1`, with the key `k` and a body.
    pub(crate) fn post(&self, path: &str) -> Ask {
        self.client.post(path).key("k").body("entry")
    }

    /// Waits until nothing runs.
    pub(crate) async fn idle(&self) {
        let drained = self.idempotency.drain(Duration::from_secs(60)).await;
        assert!(drained.finished, "{} operations do not end", drained.left);
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An answer of this status and body.
pub(crate) fn answer(status: u16, body: impl Into<String>) -> Response {
    (StatusCode::from_u16(status).expect("a status"), body.into()).into_response()
}
