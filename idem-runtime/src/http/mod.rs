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

use std::future::{Future, ready};

use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

pub(crate) use self::principal::PrincipalSource;
pub use self::{
    disposition::Disposition,
    financial::{FinancialRouter, HasKeySource},
    layer::{IdempotencyLayer, IdempotencyService},
    rejection::{Code, Rejection},
};
use crate::{
    Idempotency, Policy,
    engine::{self, Ran, Recording, Refusal, Settled, Won},
    key::StorageKey,
    record::Answer,
};

/// Runs `effect` under the guard and answers as HTTP does. An `Err` of the effect is passed on, as a service inside
/// the layer may have an error of its own.
async fn serve<X, F, Fut>(
    runtime: &Idempotency,
    policy: &Policy,
    operation: engine::Operation,
    effect: F,
) -> Result<Response, X>
where
    X: Send + 'static,
    F: FnOnce(Won) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Response, X>> + Send + 'static,
{
    let keeping = capture::Keeping::of(policy, runtime.limits());
    let settle = move |result| match result {
        Ok(response) => capture::capture(response, keeping).map(Settled::ok).left_future(),
        Err(error) => ready(Settled { value: Err(error), recording: Recording::Broken }).right_future(),
    };
    match runtime.engine().run(&operation, move |won| effect(won).then(settle)).await {
        Ok(Ran::Fresh(result)) => result,
        Ok(Ran::Replay(answer)) => Ok(replay(runtime, Some(operation.key), &answer)),
        Ok(Ran::Parked(_)) => Ok(Rejection::from(Refusal::Unknown).into_response()),
        Err(refusal) => Ok(Rejection::from(refusal).into_response()),
    }
}

impl<T> Settled<T> {
    fn ok<X>(self) -> Settled<Result<T, X>> {
        Settled { value: Ok(self.value), recording: self.recording }
    }
}

fn replay(runtime: &Idempotency, key: Option<StorageKey>, answer: &Answer) -> Response {
    let replay = stored::replay(answer);
    if let Some(key) = key {
        runtime.engine().replayed(&key, replay.is_ok());
    }
    replay.unwrap_or_else(IntoResponse::into_response)
}
