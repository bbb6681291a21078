//! Runnable services guarded by idem. Start one with `cargo run -p examples --bin payments`.

pub mod events;
mod lines;
pub mod payments;
mod signals;
pub mod speed;
pub mod stores;
