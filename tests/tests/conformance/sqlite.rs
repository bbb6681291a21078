//! The SQLite store keeps every law: each on a file of its own, with real time and with one that is moved.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use idem_runtime::{
    FakeClock, SqliteStore, StorageKey, Store,
    conformance::{Damage, Damageable, Fixture, Restartable, suite},
};
use tempfile::TempDir;

suite!(fake_clock, OneFile::new(Some(FakeClock::new())), damage: yes, restart: yes);

suite!(real_clock, OneFile::new(None), damage: yes, restart: yes);

pub(super) struct OneFile {
    directory: TempDir,
    /// `None`: that of this host.
    clock: Option<FakeClock>,
    restarts: AtomicU32,
}

impl OneFile {
    pub(super) fn new(clock: Option<FakeClock>) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock, restarts: AtomicU32::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(format!("records{}.db", self.restarts.load(Ordering::Relaxed)))
    }

    pub(super) async fn open(&self) -> SqliteStore {
        // A busy machine fails no law.
        let builder = SqliteStore::builder().lock_timeout(Duration::from_secs(30));
        let builder = match &self.clock {
            Some(clock) => builder.clock(clock.clone()),
            None => builder,
        };
        builder.open(self.path()).await.unwrap()
    }
}

#[async_trait]
impl Fixture for OneFile {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await)
    }

    async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            // Waiting is what is asked for here: it is the host's time that passes.
            None => tokio::time::sleep(time).await,
        }
    }
}

#[async_trait]
impl Damageable for OneFile {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        let statement = match damage {
            Damage::NewerFormat => "UPDATE idem_records SET format = 2 WHERE key = ?1",
            Damage::BrokenBytes => "UPDATE idem_records SET fingerprint = substr(fingerprint, 2) WHERE key = ?1",
            Damage::Gone => "DELETE FROM idem_records WHERE key = ?1",
            other => panic!("the fixture does not know how to do this: {other}"),
        };
        let store = self.open().await;
        let done = sqlx::query(statement).bind(&key.as_bytes()[..]).execute(store.pool()).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{damage}");
    }
}

/// What a killed process leaves is its files as they are at that moment, the log beside the database not yet merged into it.
/// So the files are copied while the store has them open, and the next stores open the copy.
#[async_trait]
impl Restartable for OneFile {
    async fn restart(&self) {
        let left = self.path();
        self.restarts.fetch_add(1, Ordering::Relaxed);
        for suffix in ["", "-wal"] {
            let file = |path: &Path| format!("{}{suffix}", path.display());
            fs::copy(file(&left), file(&self.path())).unwrap();
        }
    }
}
