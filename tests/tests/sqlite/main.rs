//! What is SQLite's own: the file, its lock, its room, its clock, and the transactions of handlers.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod expiry;
mod faults;
mod order;
mod ping;
mod processes;
mod records;
mod setup;
mod transactions;
mod writes;

use std::{path::PathBuf, time::Duration};

use idem_runtime::{
    FakeClock, SqliteStore,
    store::{StoreError, StoreErrorKind, sqlite::SqliteStoreBuilder},
};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

/// A directory for one file, and a clock for all who open it.
struct Place {
    directory: TempDir,
    clock: FakeClock,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: FakeClock::new() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("records.db")
    }

    /// Options that wait for a slow machine, not for a lock that nobody gives back.
    fn options(&self) -> SqliteStoreBuilder {
        SqliteStore::builder().lock_timeout(Duration::from_secs(30)).clock(self.clock.clone())
    }

    async fn open(&self) -> SqliteStore {
        self.options().open(self.file()).await.unwrap()
    }

    /// A store that soon gives up waiting for a lock.
    async fn open_impatient(&self) -> SqliteStore {
        self.options().lock_timeout(SOON).open(self.file()).await.unwrap()
    }

    /// A pool of the service's own, on the same file.
    fn pool(&self, size: u32) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.file()).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).busy_timeout(Duration::from_secs(30));
        SqlitePoolOptions::new().max_connections(size).connect_lazy_with(options)
    }
}

/// Long enough for a step on a busy machine.
const SOON: Duration = Duration::from_millis(300);

/// Requires an error of this kind.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: StoreErrorKind) -> String {
    let error = result.expect_err("it cannot be done");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}
