//! A redis-server of the test's own, on whose clock time really goes by.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{RedisStore, Store};
use redis::{Client, FromRedisValue, aio::MultiplexedConnection};

use super::Fixture;
use crate::servers::RedisServer;

/// Replicas have a connection each.
#[derive(Debug)]
pub struct Redis {
    server: RedisServer,
    connection: MultiplexedConnection,
}

#[async_trait]
impl Fixture for Redis {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(RedisServer::start).await.expect("a server");
        let client = Client::open(server.url()).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await.expect("a connection");
        Self { server, connection }
    }

    async fn connect(&self) -> Arc<dyn Store> {
        // A busy machine must not look like a lost server.
        let store = RedisStore::builder().command_timeout(Duration::from_secs(10)).connect(&self.server.url()).await;
        Arc::new(store.expect("a connected store"))
    }

    fn rounds(&self) -> usize {
        300
    }

    async fn records(&self) -> usize {
        // What is released leaves its fence behind for what is left of the millisecond, and a number of keys may count what expired.
        self.pass(Duration::from_millis(2)).await;
        let keys: Vec<String> = self.run("KEYS *").await;
        keys.len()
    }

    async fn now(&self) -> Duration {
        let (seconds, micros) = self.run("TIME").await;
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    }

    async fn pass(&self, time: Duration) {
        let until = self.now().await + time;
        loop {
            let now = self.now().await;
            if now > until {
                return;
            }
            tokio::time::sleep(until - now).await;
        }
    }
}

impl Redis {
    /// How its server is reached.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    async fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = redis::Cmd::new();
        words.arg(command.split(' ').collect::<Vec<_>>());
        let reply = words.query_async(&mut self.connection.clone()).await;
        reply.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}
