//! What the tests across crates share.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

pub mod backend;
pub mod broken;
pub mod claims;
pub mod client;
pub mod exchange;
pub mod faulty_store;
pub mod gate;
pub mod hosts;
pub mod ledger;
pub mod probe;
pub mod servers;
pub mod service;
pub mod spans;
pub mod stops;

/// The reference text of the attributes, compiled: `idem-macros` cannot name the runtime itself.
#[cfg(doctest)]
mod reference {
    #[doc = include_str!("../../idem-macros/docs/idempotent.md")]
    struct Idempotent;
    #[doc = include_str!("../../idem-macros/docs/idempotent_consumer.md")]
    struct IdempotentConsumer;
    #[doc = include_str!("../../idem-macros/docs/financial.md")]
    struct Financial;
}
