//! What tests of several crates share.

pub mod broken;
pub mod exchange;
pub mod faulty_store;
pub mod gate;
pub mod probe;
