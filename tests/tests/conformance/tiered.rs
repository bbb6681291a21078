//! The tiered store keeps every law that its authority keeps, whatever is done to both.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use idem_runtime::{
    PostgresStore, SqliteStore, StorageKey, Store, TieredStore,
    conformance::{Damage, Damageable, Fixture, Restartable, check, each_law, laws, suite},
    store::redis::RedisCache,
};
use redis::Client;
use tests::{
    backend::{Fixture as _, Tiered},
    servers::{PostgresServer, RedisServer},
};

use super::{postgres::damage_row, sqlite::OneFile};

suite!(shared_postgres, Both::start().await, damage: yes, restart: no("on servers of its own, below"));

suite!(sqlite, OverFile::start().await, damage: yes, restart: yes);

macro_rules! on_servers_of_its_own {
    ([] $($module:ident { $($law:ident)* })*) => {
        mod own_servers {
            use super::*;

            $($(
                #[test]
                fn $law() {
                    check(async { laws::$module::$law(&OwnServers::start().await).await });
                }
            )*)*
        }
    };
}

each_law!(restart(on_servers_of_its_own)[]);

struct Both {
    tiered: Tiered,
    /// Every store that was given out: what is damaged must be what they wrote last.
    stores: Mutex<Vec<TieredStore<PostgresStore>>>,
}

impl Both {
    async fn start() -> Self {
        Self { tiered: Tiered::start().await, stores: Mutex::default() }
    }
}

#[async_trait]
impl Fixture for Both {
    async fn store(&self) -> Arc<dyn Store> {
        let store = self.tiered.store().await;
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        Arc::new(store)
    }

    /// Waiting is what is asked for here: it is the servers' time that passes.
    async fn pass(&self, time: Duration) {
        self.tiered.pass(time).await;
    }
}

#[async_trait]
impl Damageable for Both {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for store in stores {
            store.flush().await;
        }
        let postgres = self.tiered.postgres();
        damage_row(&postgres.url(), postgres.schema(), key, damage).await;
        damage_copy(self.tiered.redis(), key, damage);
    }
}

fn damage_copy(redis: &RedisServer, key: StorageKey, damage: Damage) {
    let copy = tests::claims::redis_key_of(key).replacen("idem:", "idem-copy:", 1);
    let mut connection = Client::open(redis.url()).unwrap().get_connection().unwrap();
    match damage {
        Damage::NewerFormat => redis::cmd("EVAL").arg(NEWER).arg(1).arg(copy).exec(&mut connection),
        Damage::BrokenBytes => redis::cmd("EVAL").arg(CUT).arg(1).arg(copy).exec(&mut connection),
        Damage::Gone => redis::cmd("DEL").arg(copy).exec(&mut connection),
        other => panic!("the fixture does not know how to do this: {other}"),
    }
    .unwrap();
}

const NEWER: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('SETRANGE', KEYS[1], 0, '\\2') end";

/// Loses the copy's last bytes.
const CUT: &str = "local copy = redis.call('GET', KEYS[1])
if copy then redis.call('SET', KEYS[1], string.sub(copy, 1, -3), 'KEEPTTL') end";

/// Postgres is ended as hard as it can be, and so is Redis, which keeps nothing.
struct OwnServers(Mutex<(PostgresServer, RedisServer)>);

impl OwnServers {
    async fn start() -> Self {
        let server = PostgresServer::start();
        PostgresStore::migrate(&server.url()).await.unwrap();
        Self(Mutex::new((server, RedisServer::start())))
    }
}

#[async_trait]
impl Fixture for OwnServers {
    async fn store(&self) -> Arc<dyn Store> {
        let (postgres, redis) = {
            let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (servers.0.url(), servers.1.url())
        };
        let authority = PostgresStore::builder().command_timeout(PATIENT).connect(&postgres).await.unwrap();
        Arc::new(TieredStore::new(authority, RedisCache::server(&redis).unwrap()))
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[async_trait]
impl Restartable for OwnServers {
    async fn restart(&self) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.0.restart();
        servers.1.restart();
    }
}

/// A file that decides. The time is the host's, by which the copies in Redis end too.
struct OverFile {
    file: OneFile,
    redis: Mutex<RedisServer>,
    /// As in [`Both`].
    stores: Mutex<Vec<TieredStore<SqliteStore>>>,
}

impl OverFile {
    async fn start() -> Self {
        let redis = tokio::task::spawn_blocking(RedisServer::start).await.unwrap();
        Self { file: OneFile::new(None), redis: Mutex::new(redis), stores: Mutex::default() }
    }
}

#[async_trait]
impl Fixture for OverFile {
    async fn store(&self) -> Arc<dyn Store> {
        let url = self.redis.lock().unwrap_or_else(PoisonError::into_inner).url();
        let store = TieredStore::new(self.file.open().await, RedisCache::server(&url).unwrap());
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        Arc::new(store)
    }

    async fn pass(&self, time: Duration) {
        self.file.pass(time).await;
    }
}

#[async_trait]
impl Damageable for OverFile {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for store in stores {
            store.flush().await;
        }
        self.file.damage(key, damage).await;
        damage_copy(&self.redis.lock().unwrap_or_else(PoisonError::into_inner), key, damage);
    }
}

#[async_trait]
impl Restartable for OverFile {
    async fn restart(&self) {
        self.file.restart().await;
        self.redis.lock().unwrap_or_else(PoisonError::into_inner).restart();
    }
}

/// A busy machine fails no law.
const PATIENT: Duration = Duration::from_secs(20);
