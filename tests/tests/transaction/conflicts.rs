//! Transactions that meet each other, on Postgres: SQLite has one writer.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{StatusCode, request::Parts};
use idem_runtime::{
    PostgresStore, Tx, idempotent,
    store::postgres::{Isolation, driver as sqlx},
};
use tests::service::Call;

use crate::bank::{App, Bank, Database, serve};

const AGAIN: &str = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$";

/// Reads what others write, and writes what others read. Answers 201 even if it could not write.
#[idempotent(scope = "sums", key = from_header, transaction)]
async fn add(mut tx: Tx<PostgresStore>, State(app): State<App<PostgresStore>>, call: Call) -> Response {
    let sum: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut tx).await.unwrap_or(-1);
    let _ = app.script.run(call).await;
    let written = sqlx::query("INSERT INTO ledger (entry) VALUES ($1)").bind(sum.to_string()).execute(&mut tx).await;
    (StatusCode::CREATED, format!("{sum} {}", written.is_ok())).into_response()
}

/// Writes two rows, in the order of the body.
#[idempotent(scope = "pairs", key = from_header, transaction)]
async fn pair(
    mut tx: Tx<PostgresStore>,
    State(app): State<App<PostgresStore>>,
    call: Call,
) -> Result<String, StatusCode> {
    let rows = String::from_utf8_lossy(&call.body).into_owned();
    let (first, second) = rows.split_at(1);
    for (at, row) in [first, second].into_iter().enumerate() {
        if at == 1 {
            let _ = app.script.run(call.clone()).await;
        }
        let update = "UPDATE ledger SET entry = left(entry, 1) || $1 WHERE left(entry, 1) = $2";
        let updated = sqlx::query(update).bind(&rows).bind(row).execute(&mut tx).await;
        updated.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(rows)
}

#[idempotent(scope = "hopeless", key = from_header, transaction)]
async fn hopeless(mut tx: Tx<PostgresStore>, State(app): State<App<PostgresStore>>, call: Call) -> Response {
    let _ = sqlx::query("INSERT INTO ledger (entry) VALUES ('hopeless')").execute(&mut tx).await;
    let _ = sqlx::query(AGAIN).execute(&mut tx).await;
    app.script.run(call).await
}

#[idempotent(scope = "hopeless", key = from_header, transaction)]
async fn unseen(mut tx: Tx<PostgresStore>, State(app): State<App<PostgresStore>>, call: Call) -> Response {
    let _ = sqlx::query(AGAIN).execute(tx.connection()).await;
    app.script.run(call).await
}

/// Lets a caller in once.
struct Once;

impl FromRequestParts<App<PostgresStore>> for Once {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, app: &App<PostgresStore>) -> Result<Self, StatusCode> {
        if app.script.runs() == 0 { Ok(Self) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

#[idempotent(scope = "hopeless", key = from_header, transaction)]
async fn revoked(_: Once, mut tx: Tx<PostgresStore>, State(app): State<App<PostgresStore>>, call: Call) -> Response {
    let _ = sqlx::query(AGAIN).execute(&mut tx).await;
    app.script.run(call).await
}

async fn bank(database: &Database, isolation: Isolation) -> Bank {
    let Database::Postgres(postgres, _) = database else { panic!("only Postgres") };
    let store = Database::postgres_store(postgres, Duration::from_secs(30), isolation).await;
    let routes = Router::new()
        .route("/add", post(add))
        .route("/pair", post(pair))
        .route("/hopeless", post(hopeless))
        .route("/unseen", post(unseen))
        .route("/revoked", post(revoked));
    serve(store, |setup| setup, routes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serialization_failure_runs_the_handler_again() {
    let database = Database::postgres().await;
    let bank = bank(&database, Isolation::Serializable).await;
    bank.script.hold();
    let asks = ["k1", "k2"].map(|key| tokio::spawn(bank.client.post("/add").key(key).send()));
    // Both have read before one of them writes.
    bank.script.begun(2).await;
    bank.script.release();
    let mut texts = Vec::new();
    for ask in asks {
        let reply = ask.await.expect("no panic");
        reply.assert_fresh(201);
        texts.push(reply.text());
    }
    texts.sort();
    assert_eq!(texts, ["0 true", "1 true"], "as if one had run after the other");
    assert_eq!((database.entries().await, database.records().await), (2, 2));
    assert!(bank.script.runs() >= 3, "{} runs", bank.script.runs());
    let metrics = bank.idempotency.metrics();
    assert!(metrics.reruns >= 1 && metrics.executed == 2, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_runs_the_handler_again() {
    let database = Database::postgres().await;
    let bank = bank(&database, Isolation::ReadCommitted).await;
    let Database::Postgres(postgres, pool) = &database else { panic!("only Postgres") };
    let rows = format!("INSERT INTO {}.ledger (entry) VALUES ('a'), ('b')", postgres.schema());
    sqlx::query(sqlx::AssertSqlSafe(rows)).execute(pool).await.expect("two rows");
    bank.script.hold();
    let asks = ["ab", "ba"].map(|rows| tokio::spawn(bank.client.post("/pair").key(rows).body(rows).send()));
    // Each has one row, and wants the other.
    bank.script.begun(2).await;
    bank.script.release();
    for ask in asks {
        ask.await.expect("no panic").assert_fresh(200);
    }
    assert_eq!((bank.script.runs(), bank.idempotency.metrics().reruns), (3, 1));
    assert_eq!(database.records().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_not_run_again_for_ever() {
    let database = Database::postgres().await;
    let bank = bank(&database, Isolation::ReadCommitted).await;
    bank.post("/hopeless").header("x-more", "1").send().await.assert_problem(503, "contended");
    assert_eq!((bank.script.runs(), bank.idempotency.metrics().reruns), (5, 4));
    for call in bank.script.calls() {
        assert_eq!((&call.body[..], call.headers["x-more"].as_bytes()), (&b"entry"[..], &b"1"[..]));
    }
    assert_eq!((database.entries().await, database.records().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_that_nobody_sees_is_undone_and_said_to_be() {
    let database = Database::postgres().await;
    let bank = bank(&database, Isolation::ReadCommitted).await;
    bank.post("/unseen").send().await.assert_problem(503, "store-unavailable");
    assert_eq!((bank.script.runs(), database.records().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_argument_that_cannot_be_made_again_is_the_answer() {
    let database = Database::postgres().await;
    let bank = bank(&database, Isolation::ReadCommitted).await;
    bank.post("/revoked").send().await.assert_fresh(401);
    assert_eq!((bank.script.runs(), database.records().await), (1, 0));
}
