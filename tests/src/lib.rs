//! Tests.
pub mod broken;
