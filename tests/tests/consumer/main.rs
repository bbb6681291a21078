//! Events on every store: delivered at least once, taking effect once.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod attribute;
mod batch;
mod crash;
mod delivery;
mod failure;
mod inbox;
mod parked;
mod store_down;
mod support;
