//! What is measured in a database: guarded handlers, and the same done by hand in as few statements as it takes.
//!
//! Both sides have [`CONNECTIONS`] connections and the database's own settings, which put every commit on the disk.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use idem_runtime::{Idempotency, PostgresStore, SqliteStore, TieredStore, Tx, idempotent, store::redis::RedisCache};
use sqlx::{
    postgres::{PgPool, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Result,
    subject::{NewCharge, answer_of, charge, created, guarded},
};

const CONNECTIONS: u32 = 8;

/// The tables of the handlers; the store has its own.
const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS charges (amount BIGINT NOT NULL, currency TEXT NOT NULL, source TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, answer TEXT)",
];
const CHARGE: &str = "INSERT INTO charges (amount, currency, source) VALUES ($1, $2, $3)";
const CLAIM: &str = "INSERT INTO keys (key) VALUES ($1) ON CONFLICT DO NOTHING";
const RECORD: &str = "UPDATE keys SET answer = $2 WHERE key = $1";

pub(super) async fn postgres_lease(url: &str) -> Result<Router> {
    Ok(guarded(Idempotency::builder(postgres_store(url).await?).shared().build()))
}

pub(super) async fn postgres_transaction(url: &str) -> Result<Router> {
    postgres_pool(url).await?;
    let store = postgres_store(url).await?;
    let idempotency = Idempotency::builder(store.clone()).shared().build();
    Ok(Router::new().route("/charge", post(in_postgres)).with_state(Service { idempotency, store }))
}

pub(super) async fn postgres_statements(url: &str) -> Result<Router> {
    Ok(Router::new().route("/charge", post(on_postgres::two_statements)).with_state(postgres_pool(url).await?))
}

pub(super) async fn postgres_by_hand(url: &str) -> Result<Router> {
    Ok(Router::new().route("/charge", post(on_postgres::one_transaction)).with_state(postgres_pool(url).await?))
}

/// `place`: the URLs of both servers, with a space between.
pub(super) async fn tiered_lease(place: &str) -> Result<Router> {
    let (postgres, redis) = place.split_once(' ').ok_or("two URLs with a space between")?;
    let store = TieredStore::new(postgres_store(postgres).await?, RedisCache::server(redis)?);
    Ok(guarded(Idempotency::builder(store).shared().build()))
}

pub(super) async fn sqlite_lease(path: &str) -> Result<Router> {
    Ok(guarded(Idempotency::builder(SqliteStore::open(path).await?).shared().build()))
}

pub(super) async fn sqlite_transaction(path: &str) -> Result<Router> {
    sqlite_pool(path).await?.close().await;
    let store = SqliteStore::open(path).await?;
    let idempotency = Idempotency::builder(store.clone()).shared().build();
    Ok(Router::new().route("/charge", post(in_sqlite)).with_state(Service { idempotency, store }))
}

pub(super) async fn sqlite_statements(path: &str) -> Result<Router> {
    Ok(Router::new().route("/charge", post(on_sqlite::two_statements)).with_state(sqlite_pool(path).await?))
}

pub(super) async fn sqlite_by_hand(path: &str) -> Result<Router> {
    Ok(Router::new().route("/charge", post(on_sqlite::one_transaction)).with_state(sqlite_pool(path).await?))
}

async fn postgres_store(url: &str) -> Result<PostgresStore> {
    PostgresStore::migrate(url).await?;
    let store = PostgresStore::builder().max_connections(CONNECTIONS).max_transactions(CONNECTIONS);
    Ok(store.connect(url).await?)
}

async fn postgres_pool(url: &str) -> Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
    for table in TABLES {
        sqlx::query(table).execute(&pool).await?;
    }
    Ok(pool)
}

/// One connection: SQLite has one writer, and those who wait for it in the pool do not wait in its busy handler.
async fn sqlite_pool(path: &str) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    for table in TABLES {
        sqlx::query(table).execute(&pool).await?;
    }
    Ok(pool)
}

#[derive(Clone)]
struct Service<S> {
    idempotency: Idempotency,
    store: S,
}

macro_rules! service {
    ($($store:ty),*) => {$(
        impl FromRef<Service<$store>> for Idempotency {
            fn from_ref(service: &Service<$store>) -> Self {
                service.idempotency.clone()
            }
        }

        impl FromRef<Service<$store>> for $store {
            fn from_ref(service: &Service<$store>) -> Self {
                service.store.clone()
            }
        }
    )*};
}

service!(PostgresStore, SqliteStore);

#[idempotent(scope = "speed", ttl = "24h", key = from_header, transaction)]
async fn in_postgres(mut tx: Tx<PostgresStore>, Json(new): Json<NewCharge>) -> Response {
    let charged = sqlx::query(CHARGE).bind(new.amount()).bind(&new.currency).bind(&new.source).execute(&mut tx).await;
    match charged {
        Ok(_) => charge(Json(new)).await.into_response(),
        Err(error) => failed(&error),
    }
}

#[idempotent(scope = "speed", ttl = "24h", key = from_header, transaction)]
async fn in_sqlite(mut tx: Tx<SqliteStore>, Json(new): Json<NewCharge>) -> Response {
    let charged = sqlx::query(CHARGE).bind(new.amount()).bind(&new.currency).bind(&new.source).execute(&mut tx).await;
    match charged {
        Ok(_) => charge(Json(new)).await.into_response(),
        Err(error) => failed(&error),
    }
}

/// By hand: no fingerprint, no lease, no owner, no headers; a duplicate is not answered at all.
macro_rules! by_hand {
    ($module:ident, $pool:ty, $begin:literal) => {
        mod $module {
            use super::*;

            /// The claim and the record, each committed on its own.
            pub(super) async fn two_statements(
                State(pool): State<$pool>,
                headers: HeaderMap,
                new: Json<NewCharge>,
            ) -> Response {
                let done: sqlx::Result<Response> = async {
                    let claimed = sqlx::query(CLAIM).bind(key(&headers)).execute(&pool).await?;
                    if claimed.rows_affected() == 0 {
                        return Ok(StatusCode::CONFLICT.into_response());
                    }
                    let answer = answer_of(charge(new).await).await;
                    let text = String::from_utf8_lossy(&answer);
                    sqlx::query(RECORD).bind(key(&headers)).bind(&*text).execute(&pool).await?;
                    Ok(created(answer))
                }
                .await;
                done.unwrap_or_else(|error| failed(&error))
            }

            /// The claim, the effect and the record, committed together.
            pub(super) async fn one_transaction(
                State(pool): State<$pool>,
                headers: HeaderMap,
                Json(new): Json<NewCharge>,
            ) -> Response {
                let done: sqlx::Result<Response> = async {
                    let mut tx = pool.begin_with($begin).await?;
                    let claimed = sqlx::query(CLAIM).bind(key(&headers)).execute(&mut *tx).await?;
                    if claimed.rows_affected() == 0 {
                        return Ok(StatusCode::CONFLICT.into_response());
                    }
                    let effect = sqlx::query(CHARGE).bind(new.amount()).bind(&new.currency).bind(&new.source);
                    effect.execute(&mut *tx).await?;
                    let answer = answer_of(charge(Json(new)).await).await;
                    let text = String::from_utf8_lossy(&answer);
                    sqlx::query(RECORD).bind(key(&headers)).bind(&*text).execute(&mut *tx).await?;
                    tx.commit().await?;
                    Ok(created(answer))
                }
                .await;
                done.unwrap_or_else(|error| failed(&error))
            }
        }
    };
}

by_hand!(on_postgres, PgPool, "BEGIN");
by_hand!(on_sqlite, SqlitePool, "BEGIN IMMEDIATE");

fn key(headers: &HeaderMap) -> &str {
    headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default()
}

fn failed(error: &sqlx::Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}
