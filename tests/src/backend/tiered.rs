//! Postgres that decides, as in [`Postgres`], and a redis-server of the test's own that replays.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{PostgresStore, Store, TieredStore, store::redis::RedisCache};

use super::{Fixture, Postgres};
use crate::servers::RedisServer;

/// Replicas have connections of their own to both.
#[derive(Debug)]
pub struct Tiered {
    postgres: Postgres,
    redis: RedisServer,
}

#[async_trait]
impl Fixture for Tiered {
    async fn start() -> Self {
        let redis = tokio::task::spawn_blocking(RedisServer::start).await.expect("a server");
        Self { postgres: Postgres::start().await, redis }
    }

    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }

    fn rounds(&self) -> usize {
        self.postgres.rounds()
    }

    async fn records(&self) -> usize {
        self.postgres.records().await
    }

    async fn now(&self) -> Duration {
        self.postgres.now().await
    }

    async fn pass(&self, time: Duration) {
        self.postgres.pass(time).await;
    }
}

impl Tiered {
    /// As [`connect`](Fixture::connect), by its type.
    ///
    /// # Panics
    ///
    /// If Postgres is not there.
    pub async fn store(&self) -> TieredStore<PostgresStore> {
        let authority = self.postgres.builder().connect(&self.postgres.url()).await.expect("a connected store");
        TieredStore::new(authority, RedisCache::server(&self.redis.url()).expect("a URL"))
    }

    /// What decides.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// What replays.
    #[must_use]
    pub fn redis(&self) -> &RedisServer {
        &self.redis
    }
}
