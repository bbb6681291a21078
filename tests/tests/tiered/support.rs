//! Both servers, and what the tests look at.

use std::time::Duration;

use idem_runtime::{
    PostgresStore, Store, TieredStore,
    store::{
        Claim, Claimed, Ownership,
        redis::{RedisCache, RedisCacheBuilder},
    },
};
use tests::{
    claims::{LEASE, answer, claim, complete, fingerprint, key, redis_key, token, win},
    servers::{PostgresServer, RedisServer},
};

/// A Postgres that can be paused, and a Redis.
pub(crate) struct Both {
    pub(crate) postgres: PostgresServer,
    pub(crate) redis: RedisServer,
    pub(crate) store: TieredStore<PostgresStore>,
}

impl Both {
    pub(crate) async fn start() -> Self {
        Self::with(&[], RedisServer::start(), RedisCache::builder()).await
    }

    pub(crate) async fn with(settings: &[&str], redis: RedisServer, cache: RedisCacheBuilder) -> Self {
        let settings = [&["fsync=off", "synchronous_commit=off"], settings].concat();
        let postgres = PostgresServer::with(&settings);
        let store = TieredStore::new(authority(&postgres).await, cache.server(&redis.url()).unwrap());
        Self { postgres, redis, store }
    }

    /// Another replica of the service: connections of its own, nothing known.
    pub(crate) async fn elsewhere(&self) -> TieredStore<PostgresStore> {
        TieredStore::new(authority(&self.postgres).await, RedisCache::server(&self.redis.url()).unwrap())
    }

    /// Completes, and waits until it is copied.
    pub(crate) async fn completed(&self, at: u32, text: &'static str) {
        win(&self.store, claim(at, 1)).await;
        assert_eq!(self.store.complete(&complete(at, 1, text)).await.unwrap(), Ownership::Held);
        self.store.flush().await;
    }

    pub(crate) fn has_copy(&self, at: u32) -> bool {
        self.redis.run::<u32>(&["EXISTS", &copy_key(at)]) == 1
    }
}

pub(crate) async fn authority(postgres: &PostgresServer) -> PostgresStore {
    authority_at(&postgres.url()).await
}

pub(crate) async fn authority_at(url: &str) -> PostgresStore {
    PostgresStore::migrate(url).await.unwrap();
    // No statements but those that are counted, and patience: a busy machine must not look like a lost server.
    let builder = PostgresStore::builder().sweep_every(None).command_timeout(Duration::from_secs(10));
    builder.connect(url).await.unwrap()
}

/// Where the copy of the record of this number lies.
pub(crate) fn copy_key(at: u32) -> String {
    redis_key(at).replacen("idem:", "idem-copy:", 1)
}

/// Everything that may be asked of a completed key is answered as it must be.
pub(crate) async fn require_replayed(store: &impl Store, at: u32, text: &'static str, why: &str) {
    let completed = Claimed::Completed { answer: Some(answer(text)) };
    assert_eq!(store.claim(claim(at, 2)).await.unwrap(), completed, "{why}");
    assert_eq!(store.claim(claim(at, 1)).await.unwrap(), completed, "{why}, to its owner");
    let other = Claim::new(key(at), token(2), fingerprint(2), LEASE);
    assert_eq!(store.claim(other).await.unwrap(), Claimed::Mismatch, "{why}");
    let many = store.claim_many(&[claim(at, 3), other, claim(at, 4)]).await;
    let many: Vec<_> = many.into_iter().map(Result::unwrap).collect();
    assert_eq!(many, [completed.clone(), Claimed::Mismatch, completed], "{why}, among many");
}
