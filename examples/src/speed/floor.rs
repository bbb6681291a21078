//! What is kept by hand: a key and the bytes of an answer, and nothing that a guard would need besides. No caller, no fingerprint, no lease,
//! no owner, no headers; in memory no end to it either.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use redis::aio::MultiplexedConnection;

use super::{
    Result,
    subject::{NewCharge, answer_of, charge, created},
};

/// `POST /charge` with a map in memory.
pub(super) fn memory() -> Router {
    Router::new().route("/charge", post(by_map)).with_state(Answers::default())
}

/// `POST /charge` with the Redis at this URL.
pub(super) async fn redis(url: &str) -> Result<Router> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    Ok(Router::new().route("/charge", post(by_redis)).with_state(connection))
}

/// By key; `None`: in flight.
type Map = HashMap<Box<[u8]>, Option<Bytes>>;

/// Many maps, so that two requests rarely wait for one.
#[derive(Clone)]
struct Answers(Arc<[Mutex<Map>; 64]>);

impl Default for Answers {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| Mutex::default())))
    }
}

impl Answers {
    fn of(&self, key: &[u8]) -> MutexGuard<'_, Map> {
        let sum = key.iter().fold(0_usize, |sum, byte| sum + usize::from(*byte));
        self.0[sum % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn by_map(State(answers): State<Answers>, headers: HeaderMap, body: Json<NewCharge>) -> Response {
    let key = key(&headers);
    match answers.of(key).entry(key.into()) {
        Entry::Occupied(answer) => {
            return answer.get().clone().map_or_else(|| StatusCode::CONFLICT.into_response(), created);
        }
        Entry::Vacant(free) => {
            free.insert(None);
        }
    }
    let answer = answer_of(charge(body).await).await;
    if let Some(kept) = answers.of(key).get_mut(key) {
        *kept = Some(answer.clone());
    }
    created(answer)
}

async fn by_redis(
    State(mut redis): State<MultiplexedConnection>,
    headers: HeaderMap,
    body: Json<NewCharge>,
) -> Response {
    let key = key(&headers);
    let day = Duration::from_secs(24 * 60 * 60).as_millis() as u64;
    let mut claim = redis::cmd("SET");
    claim.arg(key).arg("in flight").arg("NX").arg("GET").arg("PX").arg(day);
    match claim.query_async::<Option<Vec<u8>>>(&mut redis).await {
        Ok(None) => {}
        Ok(Some(answer)) => return created(answer.into()),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
    let answer = answer_of(charge(body).await).await;
    let mut record = redis::cmd("SET");
    record.arg(key).arg(&answer[..]).arg("PX").arg(day);
    match record.query_async::<()>(&mut redis).await {
        Ok(()) => created(answer),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn key(headers: &HeaderMap) -> &[u8] {
    headers.get("idempotency-key").map_or(&b""[..], |key| key.as_bytes())
}
