//! Every store keeps every law, and every law can fail.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod broken;
mod memory;
mod postgres;
mod redis;
mod sqlite;
mod tiered;
