//! What `#[idempotent_consumer]` makes of a function.

use std::{fmt, future::Future};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{ConsumeError, Consumer, Event, ParkedReason, ProcessError, Processed};
use crate::{Attempt, Idempotency, Policy, canonical_json, http::guarded::ArgumentKey};

/// The error of a consumer's function, which must be able to say that an event was refused.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made of a `ConsumeError`",
    label = "the error of this function cannot say that an event was refused",
    note = "write `impl From<idem_runtime::ConsumeError> for {Self}`; for a type of another crate, as `String`, take an error of your own"
)]
pub trait FromConsumeError {
    /// Makes it.
    fn from_consume_error(error: ConsumeError) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<ConsumeError>> FromConsumeError for E {
    fn from_consume_error(error: ConsumeError) -> Self {
        error.into()
    }
}

/// The bytes of an event.
#[expect(missing_debug_implementations, reason = "holds what no log may show")]
pub struct Payload(Option<Bytes>);

/// `payload = bytes(..)`.
pub fn bytes_payload<P: AsRef<[u8]> + ?Sized>(payload: &P) -> Payload {
    Payload(Some(Bytes::copy_from_slice(payload.as_ref())))
}

/// `payload = ..`: as JSON in its one spelling, so that the order of a map's members does not count.
pub fn json_payload<P: Serialize + ?Sized>(payload: &P) -> Payload {
    let json = canonical_json::to_json(payload).and_then(|json| canonical_json::canonical(&json));
    Payload(json.ok().map(Bytes::from))
}

/// `fingerprint = off` and no payload.
pub const fn no_payload() -> Payload {
    Payload(Some(Bytes::new()))
}

/// The runtime that `runtime = ..` names.
pub fn runtime(runtime: &Idempotency) -> Idempotency {
    runtime.clone()
}

/// Runs a function whose arguments are its own: to its end, whoever drops the future.
pub async fn consume<T, E, F, Fut>(
    runtime: Idempotency,
    policy: &'static Policy,
    key: ArgumentKey,
    payload: Payload,
    function: F,
) -> Result<T, E>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    E: FromConsumeError + fmt::Display + Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    let consumer = runtime.consumer(*policy);
    match event(&consumer, key, payload).await {
        Ok(event) => returned(consumer.process(event, |_: Attempt| function()).await),
        Err(error) => Err(E::from_consume_error(error)),
    }
}

/// Runs a function that borrows, is generic or a method: it ends with the future.
pub async fn consume_in_place<T, E, F, Fut>(
    runtime: Idempotency,
    policy: &'static Policy,
    key: ArgumentKey,
    payload: Payload,
    function: F,
) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: FromConsumeError + fmt::Display,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let consumer = runtime.consumer(*policy);
    match event(&consumer, key, payload).await {
        Ok(event) => returned(consumer.process_in_place(event, |_: Attempt| function()).await),
        Err(error) => Err(E::from_consume_error(error)),
    }
}

async fn event(consumer: &Consumer, key: ArgumentKey, payload: Payload) -> Result<Event, ConsumeError> {
    let (id, made) = match key {
        ArgumentKey::Absent => (String::new(), true),
        ArgumentKey::Text(id) => (id, true),
        ArgumentKey::Invalid => (String::new(), false),
    };
    match payload.0 {
        Some(payload) if made => Ok(Event::new(id, payload)),
        payload => {
            let event = Event::new(id, payload.unwrap_or_default());
            consumer.park(&event, "its key or payload is no JSON").await?;
            Err(ConsumeError::Parked(ParkedReason::Undecodable))
        }
    }
}

fn returned<T, E: FromConsumeError>(result: Result<Processed<T>, ProcessError<E>>) -> Result<T, E> {
    match result {
        Ok(done) => Ok(done.value),
        Err(ProcessError::Failed { error, parked: false, .. }) => Err(error),
        // The error is kept with the event; whoever called must know that it is over.
        Err(ProcessError::Failed { parked: true, .. }) => {
            Err(E::from_consume_error(ConsumeError::Parked(ParkedReason::Failed)))
        }
        Err(ProcessError::Refused(error)) => Err(E::from_consume_error(error)),
    }
}
