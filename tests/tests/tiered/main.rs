//! What holds for the tiered store alone: what Redis may do, for how long a copy lives, what a replay costs.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod copies;
mod faults;
mod forgotten;
mod prefix;
mod support;
mod transactions;
