//! A table of the test's own in a server that all tests of the process share, on whose clock time really goes by.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{
    PostgresStore, Store,
    store::postgres::{PostgresStoreBuilder, driver as sqlx},
};
use sqlx::PgPool;

use super::Fixture;
use crate::servers::{PostgresSchema, PostgresServer};

/// Replicas have connections of their own.
#[derive(Debug)]
pub struct Postgres {
    schema: PostgresSchema,
    pool: PgPool,
}

#[async_trait]
impl Fixture for Postgres {
    async fn start() -> Self {
        let schema = tokio::task::spawn_blocking(PostgresServer::schema).await.expect("a server");
        let pool = PgPool::connect_lazy(&schema.url).expect("a URL");
        let postgres = Self { schema, pool };
        postgres.builder().migrate(&postgres.schema.url).await.expect("a table");
        postgres
    }

    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.builder().connect(&self.schema.url).await.expect("a connected store"))
    }

    fn rounds(&self) -> usize {
        100
    }

    async fn records(&self) -> usize {
        let count = format!(
            "SELECT count(*) FROM {}.idem_records \
             WHERE state <> 6 AND (forget > extract(epoch FROM clock_timestamp()) * 1000000) IS NOT FALSE",
            self.schema.name
        );
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&self.pool).await.expect("a count");
        usize::try_from(count).expect("a count")
    }

    async fn now(&self) -> Duration {
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let now: i64 = sqlx::query_scalar(now).fetch_one(&self.pool).await.expect("a time");
        Duration::from_micros(now.unsigned_abs())
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

impl Postgres {
    /// How its server is reached.
    #[must_use]
    pub fn url(&self) -> String {
        self.schema.url.clone()
    }

    /// How its table is reached, by whoever names no schema.
    #[must_use]
    pub fn url_of_its_table(&self) -> String {
        format!("{}?options[search_path]={}", self.schema.url, self.schema.name)
    }

    /// The schema of its table.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema.name
    }

    /// Options for its table, and patience: a busy machine must not look like a lost server.
    pub fn builder(&self) -> PostgresStoreBuilder {
        let patient = Duration::from_secs(10);
        let builder = PostgresStore::builder().command_timeout(patient).connect_timeout(patient);
        builder.schema(&*self.schema.name)
    }
}
