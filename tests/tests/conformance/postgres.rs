//! The Postgres store keeps every law: those that need no restart on a server that all share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use idem_runtime::{
    PostgresStore, StorageKey, Store,
    conformance::{Damage, Damageable, Fixture, Restartable, check, each_law, laws, suite},
    store::postgres::{PostgresStoreBuilder, driver as sqlx},
};
use tests::{
    backend::{Fixture as _, Postgres},
    servers::PostgresServer,
};

suite!(one_server, Shared::start().await, damage: yes, restart: no("on a server of its own, below"));

macro_rules! on_a_server_of_its_own {
    ([] $($module:ident { $($law:ident)* })*) => {
        mod own_server {
            use super::*;

            $($(
                #[test]
                fn $law() {
                    check(async { laws::$module::$law(&OwnServer::start().await).await });
                }
            )*)*
        }
    };
}

each_law!(restart(on_a_server_of_its_own)[]);

struct Shared(Postgres);

impl Shared {
    async fn start() -> Self {
        Self(Postgres::start().await)
    }
}

#[async_trait]
impl Fixture for Shared {
    async fn store(&self) -> Arc<dyn Store> {
        self.0.connect().await
    }

    /// Waiting is what is asked for here: it is the server's time that passes.
    async fn pass(&self, time: Duration) {
        self.0.pass(time).await;
    }
}

#[async_trait]
impl Damageable for Shared {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        damage_row(&self.0.url(), self.0.schema(), key, damage).await;
    }
}

pub(super) async fn damage_row(url: &str, schema: &str, key: StorageKey, damage: Damage) {
    let statement = match damage {
        Damage::NewerFormat => format!("UPDATE {schema}.idem_records SET format = 2 WHERE key = $1"),
        Damage::BrokenBytes => {
            format!("UPDATE {schema}.idem_records SET fingerprint = substr(fingerprint, 2) WHERE key = $1")
        }
        Damage::Gone => format!("DELETE FROM {schema}.idem_records WHERE key = $1"),
        other => panic!("the fixture does not know how to do this: {other}"),
    };
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.unwrap();
    let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(key.as_bytes().to_vec());
    assert_eq!(query.execute(&mut connection).await.unwrap().rows_affected(), 1);
}

/// A server that writes every commit to disk before it answers.
struct OwnServer(Mutex<PostgresServer>);

impl OwnServer {
    async fn start() -> Self {
        let server = PostgresServer::start();
        patient().migrate(&server.url()).await.unwrap();
        Self(Mutex::new(server))
    }

    fn with<T>(&self, what: impl FnOnce(&mut PostgresServer) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Fixture for OwnServer {
    async fn store(&self) -> Arc<dyn Store> {
        let url = self.with(|server| server.url());
        Arc::new(patient().connect(&url).await.unwrap())
    }

    /// Waiting is what is asked for here: it is the server's time that passes.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[async_trait]
impl Restartable for OwnServer {
    async fn restart(&self) {
        self.with(PostgresServer::restart);
    }
}

/// A busy machine fails no law.
fn patient() -> PostgresStoreBuilder {
    let patience = Duration::from_secs(20);
    PostgresStore::builder().command_timeout(patience).connect_timeout(patience)
}
