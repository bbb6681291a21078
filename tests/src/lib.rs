//! What tests share: real servers, and stores that break one law each.

pub mod broken;
pub mod servers;
