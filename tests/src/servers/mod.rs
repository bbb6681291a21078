//! Real servers for tests: every one on a port and in a directory of its own, gone when it is dropped.
//!
//! A server that cannot be started fails the test: a test that is skipped in silence proves nothing.

mod ask;
mod cluster;
mod nats;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sentinel;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use self::{
    cluster::RedisCluster,
    nats::NatsServer,
    postgres::{PgBouncer, PostgresSchema, PostgresServer},
    process::free_port,
    proxy::Proxy,
    redis::{RedisServer, Tls},
    sentinel::SentinelTrio,
};

/// Looks again and again until it sees something.
///
/// # Panics
///
/// If it has not by `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// As [`eventually`], without holding up the runtime.
///
/// # Panics
///
/// If it has not by `limit`.
pub async fn eventually_async<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
