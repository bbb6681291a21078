//! Tests.
pub mod broken;

/// The reference text of the attributes, compiled: `idem-macros` cannot name the runtime itself.
#[cfg(doctest)]
mod reference {
    #[doc = include_str!("../../idem-macros/docs/idempotent.md")]
    struct Idempotent;
    #[doc = include_str!("../../idem-macros/docs/financial.md")]
    struct Financial;
}
