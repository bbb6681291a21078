//! The Postgres store against real servers: how it connects, what it costs, what it holds to when they fail.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod cost;
mod expiry;
mod faults;
mod ping;
mod pooler;
mod races;
mod records;
mod setup;
mod stray;
mod support;
mod transaction_faults;
mod transactions;
