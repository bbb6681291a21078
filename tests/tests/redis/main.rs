//! What holds for Redis alone: set-up, faults, records, cost, Cluster and Sentinel.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod cluster;
mod cost;
mod faults;
mod fences;
mod parked;
mod ping;
mod records;
mod sentinel;
mod setup;
