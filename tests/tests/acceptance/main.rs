//! What must be true on every store, over real HTTP.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod abandoned;
#[cfg(target_os = "linux")]
mod clock;
mod concurrency;
mod errors;
mod execute;
mod grpc;
mod guards;
mod header;
mod http;
mod keys;
mod large;
mod layer;
mod mismatch;
mod outside;
mod recover;
mod replay;
mod store_down;
mod targets;
mod time;
