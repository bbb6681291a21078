//! What is measured: one `POST /charge`, bare, guarded, or with the least a guard could cost.

use std::{fmt, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRef, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use clap::ValueEnum;
use idem_runtime::{Idempotency, IdempotencyLayer, MemoryStore, Policy, RedisStore, idempotent};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::Result;

/// What serves `POST /charge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Subject {
    /// The handler alone.
    Bare,
    /// The attribute, in memory.
    Memory,
    /// The layer, in memory.
    Layer,
    /// The handler, a `SET NX GET` before it and a `SET` behind it.
    Floor,
    /// The attribute, in Redis.
    Redis,
}

#[derive(Debug, Deserialize)]
struct NewCharge {
    amount: u64,
    currency: String,
    source: String,
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
            Self::Floor => "floor, redis",
            Self::Redis => "redis",
        })
    }
}

impl Subject {
    /// The name by which the command starts itself.
    pub(super) fn argument(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Serves until killed; says where on standard output.
    pub(super) async fn serve(self, redis: &str) -> Result<()> {
        let app = match self {
            Self::Bare => Router::new().route("/charge", post(charge)),
            Self::Memory => guarded(Idempotency::builder(memory()).shared().build()),
            Self::Layer => {
                let idempotency = Idempotency::builder(memory()).shared().build();
                let layer = IdempotencyLayer::new(idempotency, Policy::new("speed")).required();
                Router::new().route("/charge", post(charge)).layer(layer)
            }
            Self::Floor => {
                let connection = redis::Client::open(redis)?.get_multiplexed_async_connection().await?;
                Router::new().route("/charge", post(floor)).with_state(connection)
            }
            Self::Redis => guarded(Idempotency::builder(RedisStore::connect(redis).await?).shared().build()),
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

fn guarded(idempotency: Idempotency) -> Router {
    Router::new().route("/charge", post(guarded_charge)).with_state(App { idempotency })
}

fn memory() -> MemoryStore {
    MemoryStore::builder().max_entries(10_000_000).max_bytes(8 << 30).build()
}

async fn charge(Json(charge): Json<NewCharge>) -> impl IntoResponse {
    let NewCharge { amount, currency, source } = charge;
    (StatusCode::CREATED, Json(Charge { id: 1, amount, currency, source, status: "succeeded" }))
}

#[idempotent(scope = "speed", ttl = "24h", key = from_header)]
async fn guarded_charge(body: Json<NewCharge>) -> impl IntoResponse {
    charge(body).await
}

/// The least that a claim and a record in Redis can cost: no fingerprint, no lease, no owner, no headers.
async fn floor(State(mut redis): State<MultiplexedConnection>, headers: HeaderMap, body: Json<NewCharge>) -> Response {
    let key = headers.get("idempotency-key").map_or(&b""[..], |key| key.as_bytes());
    let day = Duration::from_secs(24 * 60 * 60).as_millis() as u64;
    let mut claim = redis::cmd("SET");
    claim.arg(key).arg("in flight").arg("NX").arg("GET").arg("PX").arg(day);
    match claim.query_async::<Option<Vec<u8>>>(&mut redis).await {
        Ok(None) => {}
        Ok(Some(answer)) => return created(answer.into()),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
    let answer = charge(body).await.into_response();
    let Ok(answer) = axum::body::to_bytes(answer.into_body(), 1 << 20).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut record = redis::cmd("SET");
    record.arg(key).arg(&answer[..]).arg("PX").arg(day);
    match record.query_async::<()>(&mut redis).await {
        Ok(()) => created(answer),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn created(body: Bytes) -> Response {
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
