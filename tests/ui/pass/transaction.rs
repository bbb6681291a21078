#[path = "../support.rs"]
mod support;

use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::StatusCode,
    routing::post,
};
use idem_runtime::{
    Attempt, FinancialRouter, Idempotency, PostgresStore, SqliteStore, Tx, financial, idempotent,
    store::sqlite::driver as sqlx,
};

#[derive(Clone, FromRef)]
struct Bank {
    idempotency: Idempotency,
    store: SqliteStore,
}

/// As a whole, with everything that a handler may take.
#[financial]
#[idempotent(scope = "transfers", key = from_header, transaction)]
#[axum::debug_handler(state = Bank)]
async fn transfer(
    State(_): State<SqliteStore>,
    mut tx: Tx<SqliteStore>,
    attempt: Attempt,
    Json(cents): Json<i64>,
) -> Result<String, StatusCode> {
    sqlx::query("INSERT INTO ledger (cents) VALUES (?)").bind(cents).execute(&mut tx).await.map_err(failed)?;
    let sum: i64 = sqlx::query_scalar("SELECT sum(cents) FROM ledger").fetch_one(&mut tx).await.map_err(failed)?;
    assert!(attempt.still_owner().await.is_ok_and(|owner| owner));
    Ok(format!("{} {sum}", attempt.number()))
}

/// The transaction last, under another path, and code that takes a connection.
#[idempotent(scope = "refunds", transaction, store = definitive, on_conflict = wait("5s"))]
async fn refund(mut tx: idem_runtime::Tx<SqliteStore>) -> StatusCode {
    let written = sqlx::query("INSERT INTO ledger (cents) VALUES (1)").execute(tx.connection()).await;
    if written.is_ok() { StatusCode::CREATED } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Another database.
#[idempotent(scope = "transfers", key = from_header, financial, transaction)]
async fn elsewhere(mut tx: Tx<PostgresStore>) -> StatusCode {
    let written = idem_runtime::store::postgres::driver::query("SELECT 1").execute(&mut tx).await;
    if written.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

#[derive(Clone, FromRef)]
struct Elsewhere {
    idempotency: Idempotency,
    store: PostgresStore,
}

fn failed(_: sqlx::Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn main() {
    let _: Router<Elsewhere> = Router::new().route("/", post(elsewhere));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let path = std::env::temp_dir().join(format!("idem-ui-transaction-{}.db", std::process::id()));
    let store = runtime.block_on(SqliteStore::open(&path)).expect("a store");
    runtime
        .block_on(sqlx::query("CREATE TABLE ledger (cents INTEGER)").execute(store.pool()))
        .expect("a table");
    let idempotency = Idempotency::builder(store.clone()).shared().build();
    let routes: Router<Bank> = FinancialRouter::new().post("/transfers", transfer).into_router();
    let app = routes.route("/refunds", post(refund)).with_state(Bank { idempotency, store });
    let outside = std::thread::spawn(move || {
        let transfer = support::runs_once(&app, || support::post("/transfers", &[("idempotency-key", "k")], "5"));
        assert_eq!(transfer.2, "1 5");
        support::runs_once(&app, || support::post("/refunds", &[("idempotency-key", "k")], ""));
    });
    outside.join().expect("the requests");
    let rows: i64 = runtime
        .block_on(sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(SqliteStore::pool(&runtime.block_on(SqliteStore::open(&path)).expect("a store"))))
        .expect("a number");
    assert_eq!(rows, 2);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
}
