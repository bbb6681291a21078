//! What the tests across crates share.

pub mod broken;
pub mod servers;
