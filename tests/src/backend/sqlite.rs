//! A SQLite file of the test's own, on a clock that the test moves.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use idem_runtime::{Clock, FakeClock, SqliteStore, Store};
use sqlx::SqlitePool;
use tempfile::TempDir;

use super::Fixture;

/// Replicas open the file each for themselves, as another process would, and share the clock of their one host.
#[derive(Debug)]
pub struct Sqlite {
    directory: TempDir,
    clock: FakeClock,
    /// Looks into the file.
    pool: SqlitePool,
}

#[async_trait]
impl Fixture for Sqlite {
    async fn start() -> Self {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), FakeClock::new());
        let pool = open(path(&directory), &clock).await.pool().clone();
        Self { directory, clock, pool }
    }

    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(open(path(&self.directory), &self.clock).await)
    }

    fn rounds(&self) -> usize {
        300
    }

    async fn records(&self) -> usize {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM idem_records").fetch_one(&self.pool).await.expect("a number");
        usize::try_from(count).expect("a number of records")
    }

    async fn now(&self) -> Duration {
        Duration::from_micros(self.clock.now())
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

impl Sqlite {
    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path(&self.directory)
    }

    /// Another process that waits no longer than this for the file's lock.
    ///
    /// # Panics
    ///
    /// If the file cannot be opened.
    pub async fn impatient(&self, lock_timeout: Duration) -> SqliteStore {
        let builder = SqliteStore::builder().lock_timeout(lock_timeout).clock(self.clock.clone());
        builder.open(self.path()).await.expect("an open store")
    }

    /// Holds the file's lock, as another process does that writes, until it is dropped.
    ///
    /// # Panics
    ///
    /// If somebody else holds it.
    pub async fn lock(&self) -> impl Sized {
        self.pool.begin_with("BEGIN IMMEDIATE").await.expect("the lock")
    }
}

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("records.db")
}

/// A busy machine must not look like a lock that somebody holds.
async fn open(path: PathBuf, clock: &FakeClock) -> SqliteStore {
    let builder = SqliteStore::builder().lock_timeout(Duration::from_secs(30)).clock(clock.clone());
    builder.open(path).await.expect("an open store")
}
