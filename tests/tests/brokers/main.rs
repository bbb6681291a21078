//! Worker loops on real brokers: Redis Streams and NATS JetStream.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod bus;
mod crashes;
mod delivery;
mod faults;
mod nats;
mod parking;
mod redis_streams;
