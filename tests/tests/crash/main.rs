//! Real processes on a real Redis, killed and stopped in the middle.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod process;
mod redis;
mod support;
mod torture;
