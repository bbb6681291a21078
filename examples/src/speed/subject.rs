//! What is measured: one `POST /charge`, bare, guarded, or with the least a guard could cost.

use std::fmt;

use axum::{
    Json, Router,
    body::Bytes,
    extract::FromRef,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use clap::ValueEnum;
use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Policy, RedisStore, idempotent};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{Result, floor, sql};

/// What serves `POST /charge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Subject {
    /// The handler alone.
    Bare,
    /// The attribute, in memory.
    Memory,
    /// The layer, in memory.
    Layer,
    /// The handler, a look into a map before it and an insertion behind it.
    MemoryFloor,
    /// The handler, a `SET NX GET` before it and a `SET` behind it.
    Floor,
    /// The attribute, in Redis.
    Redis,
    /// The attribute, in Postgres.
    Postgres,
    /// The handler, an `INSERT` before it and an `UPDATE` behind it, in Postgres.
    PostgresFloor,
    /// The attribute with `transaction`, in Postgres.
    PostgresTransaction,
    /// The same transaction written by hand, in Postgres.
    PostgresByHand,
    /// The attribute, in Postgres with Redis in front.
    Tiered,
    /// The attribute, in SQLite.
    Sqlite,
    /// The handler, an `INSERT` before it and an `UPDATE` behind it, in SQLite.
    SqliteFloor,
    /// The attribute with `transaction`, in SQLite.
    SqliteTransaction,
    /// The same transaction written by hand, in SQLite.
    SqliteByHand,
}

/// What a subject keeps its records in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Redis,
    Postgres,
    /// Both servers: their URLs with a space between.
    Both,
    File,
}

impl Needs {
    pub(super) fn redis(self) -> bool {
        matches!(self, Self::Redis | Self::Both)
    }

    pub(super) fn a_server(self) -> bool {
        self.redis() || self.postgres()
    }

    pub(super) fn postgres(self) -> bool {
        matches!(self, Self::Postgres | Self::Both)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct NewCharge {
    amount: u64,
    pub(super) currency: String,
    pub(super) source: String,
}

impl NewCharge {
    /// As a database counts.
    pub(super) fn amount(&self) -> i64 {
        self.amount.cast_signed()
    }
}

#[derive(Debug, Serialize)]
struct Charge {
    id: u64,
    amount: u64,
    currency: String,
    source: String,
    status: &'static str,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Memory => "memory",
            Self::Layer => "layer, memory",
            Self::MemoryFloor => "floor, memory",
            Self::Floor => "floor, redis",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::PostgresFloor => "floor, postgres",
            Self::PostgresTransaction => "postgres, tx",
            Self::PostgresByHand => "by hand, postgres",
            Self::Tiered => "tiered",
            Self::Sqlite => "sqlite",
            Self::SqliteFloor => "floor, sqlite",
            Self::SqliteTransaction => "sqlite, tx",
            Self::SqliteByHand => "by hand, sqlite",
        })
    }
}

impl Subject {
    /// The name by which the command starts itself.
    pub(super) fn argument(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn needs(self) -> Needs {
        match self {
            Self::Bare | Self::Memory | Self::Layer | Self::MemoryFloor => Needs::Nothing,
            Self::Floor | Self::Redis => Needs::Redis,
            Self::Postgres | Self::PostgresFloor | Self::PostgresTransaction | Self::PostgresByHand => Needs::Postgres,
            Self::Tiered => Needs::Both,
            Self::Sqlite | Self::SqliteFloor | Self::SqliteTransaction | Self::SqliteByHand => Needs::File,
        }
    }

    /// Serves until killed, with its records at `place`: a URL or a path. Says where on standard output.
    pub(super) async fn serve(self, place: &str) -> Result<()> {
        let app = match self {
            Self::Bare => Router::new().route("/charge", post(charge)),
            Self::Memory => guarded(Idempotency::builder(memory()).shared().build()),
            Self::Layer => {
                let idempotency = Idempotency::builder(memory()).shared().build();
                let layer = IdempotencyLayer::new(idempotency, Policy::new("speed")).required();
                Router::new().route("/charge", post(charge)).layer(layer)
            }
            Self::MemoryFloor => floor::memory(),
            Self::Floor => floor::redis(place).await?,
            Self::Redis => guarded(Idempotency::builder(RedisStore::connect(place).await?).shared().build()),
            Self::Postgres => sql::postgres_lease(place).await?,
            Self::PostgresFloor => sql::postgres_statements(place).await?,
            Self::PostgresTransaction => sql::postgres_transaction(place).await?,
            Self::PostgresByHand => sql::postgres_by_hand(place).await?,
            Self::Tiered => sql::tiered_lease(place).await?,
            Self::Sqlite => sql::sqlite_lease(place).await?,
            Self::SqliteFloor => sql::sqlite_statements(place).await?,
            Self::SqliteTransaction => sql::sqlite_transaction(place).await?,
            Self::SqliteByHand => sql::sqlite_by_hand(place).await?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        Ok(axum::serve(listener, app).await?)
    }
}

#[derive(Debug, Clone, FromRef)]
struct App {
    idempotency: Idempotency,
}

pub(super) fn guarded(idempotency: Idempotency) -> Router {
    Router::new().route("/charge", post(guarded_charge)).with_state(App { idempotency })
}

fn memory() -> MemoryStore {
    MemoryStore::builder().max_entries(10_000_000).max_bytes(8 << 30).build()
}

pub(super) async fn charge(Json(charge): Json<NewCharge>) -> impl IntoResponse {
    let NewCharge { amount, currency, source } = charge;
    (StatusCode::CREATED, Json(Charge { id: 1, amount, currency, source, status: "succeeded" }))
}

#[idempotent(scope = "speed", ttl = "24h", key = from_header)]
async fn guarded_charge(body: Json<NewCharge>) -> impl IntoResponse {
    charge(body).await
}

/// The bytes of a handler's answer, as those keep it who keep nothing else.
pub(super) async fn answer_of(answer: impl IntoResponse) -> Bytes {
    // The body of a JSON answer is in memory already.
    axum::body::to_bytes(answer.into_response().into_body(), 1 << 20).await.unwrap_or_default()
}

pub(super) fn created(body: Bytes) -> Response {
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
