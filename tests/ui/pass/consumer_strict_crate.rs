//! What the attribute writes into a function breaks none of a crate's rules.
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    missing_copy_implementations,
    unused_qualifications,
    single_use_lifetimes,
    trivial_casts,
    unit_bindings,
    unnameable_types,
    let_underscore_drop,
    non_local_definitions,
    non_ascii_idents
)]
#![deny(rust_2018_idioms, rust_2021_compatibility, nonstandard_style, future_incompatible, unused)]
#![forbid(unsafe_code, missing_docs)]

#[path = "../support.rs"]
mod support;

use idem_runtime::{ConsumeError, Idempotency, idempotent_consumer};

/// An event.
#[derive(Debug, serde::Serialize)]
pub struct Event {
    id: String,
}

/// Ships.
///
/// # Errors
/// When it is refused.
#[idempotent_consumer(scope = "ship", key = event.id, payload = event, runtime = idempotency)]
pub async fn ship(idempotency: Idempotency, mut event: Event) -> Result<String, ConsumeError> {
    drop(idempotency);
    event.id.push('!');
    Ok(event.id)
}

/// Never comes back.
///
/// # Errors
/// Never.
#[idempotent_consumer(scope = "never", key = 7_u64 + event.id.len() as u64, payload = event, runtime = idempotency)]
pub async fn never(idempotency: &Idempotency, event: Event) -> Result<(), ConsumeError> {
    drop((idempotency.clone(), event));
    std::future::pending().await
}

fn main() {
    let idempotency = support::runtime();
    let shipped = support::wait(ship(idempotency, Event { id: "evt".to_owned() }));
    assert_eq!(shipped.as_deref(), Ok("evt!"));
}
