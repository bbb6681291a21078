//! The engine behind axum and tower.
//!
//! [`Guarded`](guarded::Guarded) is what the attribute makes of a handler's arguments, [`IdempotencyLayer`] puts the same guard around
//! a service, and
//! [`Transacted`](transacted::Transacted) is `Guarded` for a handler in a transaction. All prepare a request (buffer its body, find key and principal, digest it: [`request`]), run the rest
//! as one effect of the engine, [`capture`] its answer, and give back that answer, one [`stored`] earlier, or a
//! [`Rejection`] as problem+json.

mod body;
mod capture;
mod disposition;
mod financial;
pub(crate) mod guarded;
mod header;
mod layer;
mod principal;
mod rejection;
mod request;
pub(crate) mod stored;
pub(crate) mod transacted;

use std::future::Future;

use axum::response::{IntoResponse, Response};

use self::capture::{Capturing, Keeping};
pub(crate) use self::principal::PrincipalSource;
pub use self::{
    disposition::Disposition,
    financial::{FinancialRouter, HasKeySource},
    layer::{IdempotencyLayer, IdempotencyService},
    rejection::{Code, Rejection},
};
use crate::{
    Idempotency, Policy,
    engine::{self, Granted, Ran, Refusal},
    key::StorageKey,
    record::Answer,
};

/// Runs `effect` under the guard and answers as HTTP does. An `Err` of the effect is passed on, as a service inside
/// the layer may have an error of its own.
async fn serve<X, F, Fut>(
    runtime: &Idempotency,
    policy: &Policy,
    operation: &engine::Operation,
    effect: F,
) -> Result<Response, X>
where
    X: Send + 'static,
    F: FnOnce(Granted<'_>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Response, X>> + Send + 'static,
{
    let keeping = Keeping::of(policy, runtime.limits());
    let ran = runtime.engine().run(operation, move |won| Capturing::new(effect(won), keeping)).await;
    fresh(runtime, policy, Some(operation.key), ran).unwrap_or_else(Ok)
}

/// What the effect returned if it ran now, else the response in its place.
fn fresh<T>(
    runtime: &Idempotency,
    policy: &Policy,
    key: Option<StorageKey>,
    ran: Result<Ran<T>, Refusal>,
) -> Result<T, Response> {
    match ran {
        // Its own client is told what its own run did.
        Ok(Ran::Fresh(value) | Ran::Stale(value)) => Ok(value),
        Ok(Ran::Replay(answer)) => Err(replay(runtime, key, &answer)),
        Ok(Ran::Parked(_)) => Err(Rejection::from(Refusal::Unknown).into_response()),
        Err(refusal) => Err(Rejection::under(policy, refusal).into_response()),
    }
}

fn replay(runtime: &Idempotency, key: Option<StorageKey>, answer: &Answer) -> Response {
    let replay = stored::replay(answer);
    if let Some(key) = key {
        runtime.engine().replayed(&key, replay.is_ok());
    }
    replay.unwrap_or_else(IntoResponse::into_response)
}
