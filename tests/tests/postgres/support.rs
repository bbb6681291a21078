//! What these tests share.

use std::time::Duration;

use idem_runtime::{
    PostgresStore, StorageKey,
    store::{
        Begun, Claim, Claimed, Ownership, Transactions,
        postgres::{PostgresStoreBuilder, driver as sqlx},
    },
};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tests::{
    backend::{Fixture, Postgres},
    claims::{claim, complete, fingerprint},
    servers::{PostgresServer, eventually_async},
};

/// A table of the test's own, a store on it that is not in a hurry, and a pool to look at it with.
pub(crate) struct World {
    pub(crate) postgres: Postgres,
    pub(crate) store: PostgresStore,
    pub(crate) pool: PgPool,
}

impl World {
    pub(crate) async fn start() -> Self {
        let postgres = Postgres::start().await;
        let store = postgres.builder().connect(&postgres.url()).await.unwrap();
        let pool = PgPool::connect_lazy(&postgres.url()).unwrap();
        Self { postgres, store, pool }
    }

    /// Another replica's store.
    pub(crate) async fn other(&self) -> PostgresStore {
        self.postgres.builder().connect(&self.postgres.url()).await.unwrap()
    }

    /// Runs a statement in which `{t}` is the table, and says how many rows it was about.
    pub(crate) async fn run(&self, statement: &str) -> u64 {
        let done = sqlx::query(AssertSqlSafe(self.text(statement))).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}")).rows_affected()
    }

    /// A number that a statement gives.
    pub(crate) async fn number(&self, statement: &str) -> i64 {
        let asked = sqlx::query_scalar(AssertSqlSafe(self.text(statement))).fetch_one(&self.pool).await;
        asked.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// A text that a statement gives.
    pub(crate) async fn text_of(&self, statement: &str) -> String {
        let asked = sqlx::query_scalar(AssertSqlSafe(self.text(statement))).fetch_one(&self.pool).await;
        asked.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Waits until so many statements on the table wait for a lock.
    pub(crate) async fn until_waiting(&self, statements: i64) {
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%\"{}\"%'",
            self.postgres.schema()
        );
        eventually_async("statements wait for a lock", Duration::from_secs(20), async || {
            (self.number(&waiting).await >= statements).then_some(())
        })
        .await;
    }

    /// The server's clock in microseconds, as fences count.
    pub(crate) async fn micros(&self) -> u64 {
        u64::try_from(self.postgres.now().await.as_micros()).expect("a time")
    }

    fn text(&self, statement: &str) -> String {
        statement.replace("{t}", &format!("{}.idem_records", self.postgres.schema()))
    }
}

/// A server of the test's own, with the default table.
pub(crate) async fn migrated(settings: &[&str]) -> PostgresServer {
    let server = PostgresServer::with(settings);
    patient().migrate(&server.url()).await.unwrap();
    server
}

/// Options with which a busy machine does not look like a lost server.
pub(crate) fn patient() -> PostgresStoreBuilder {
    let patience = Duration::from_secs(20);
    PostgresStore::builder().command_timeout(patience).connect_timeout(patience)
}

/// A store that gives up soon.
pub(crate) fn hasty() -> PostgresStoreBuilder {
    PostgresStore::builder().command_timeout(TIMEOUT)
}

pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
/// What a fault may cost a request beyond the time-out.
pub(crate) const BEYOND: Duration = Duration::from_millis(300);

/// A key's first execution, in a transaction: one statement of the handler's.
pub(crate) async fn first_execution(store: &PostgresStore, at: u32) {
    let Begun::Won { mut transaction, .. } = store.begin_and_claim(claim(at, 1)).await.unwrap() else {
        panic!("{at} is new")
    };
    transaction.execute("SELECT").await.unwrap();
    assert_eq!(store.complete_and_commit(transaction, &complete(at, 1, "a")).await.unwrap(), Ownership::Held);
}

/// The same claim with another lease.
pub(crate) fn leased(mut claim: Claim, lease: Duration) -> Claim {
    claim.lease = lease;
    claim
}

/// The same claim of another request.
pub(crate) fn used_with(mut claim: Claim, print: u8) -> Claim {
    claim.fingerprint = fingerprint(print);
    claim
}

pub(crate) fn is_won(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::Won { .. })
}

pub(crate) fn hex(key: StorageKey) -> String {
    key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
