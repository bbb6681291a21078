//! Real processes on real stores, killed and stopped in the middle.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod process;
mod servers;
mod steps;
mod support;
mod torture;
