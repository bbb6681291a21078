//! The options of the store, and how it opens its file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::Instant;

use super::{
    Connections, Inner, SqliteStore,
    fault::{self, Fault},
    step::Timeline,
    table,
    transaction::Commits,
    writer::Writer,
};
use crate::{clock::Clock, store::StoreError};

/// The options of a [`SqliteStore`].
///
/// ```no_run
/// # async fn example() -> Result<(), idem_runtime::store::StoreError> {
/// use std::time::Duration;
/// use idem_runtime::SqliteStore;
///
/// let store = SqliteStore::builder()
///     .lock_timeout(Duration::from_secs(2))
///     .max_bytes(4 << 30)
///     .open("/var/lib/shop/idempotency.db")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options open nothing"]
pub struct SqliteStoreBuilder {
    lock_timeout: Duration,
    synchronous: Synchronous,
    max_bytes: Option<u64>,
    /// `None`: that of the host.
    clock: Option<Arc<dyn Clock>>,
}

/// What is on the disk when a step is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// The step: a power cut loses nothing that was answered.
    Full,
    /// Perhaps not yet: a power cut may lose the last steps, of some seconds in a quiet service, and what they guarded
    /// then runs again. The end of the process alone loses nothing.
    Normal,
}

impl SqliteStoreBuilder {
    pub(super) fn new() -> Self {
        Self { lock_timeout: Duration::from_secs(5), synchronous: Synchronous::Full, max_bytes: None, clock: None }
    }

    /// How long a step, or the beginning of a transaction, waits for the file's write lock while another process holds
    /// it, and how long while another transaction of this process does. Default 5 s; at least 1 ms, at most an hour.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// What is on the disk when a step is answered. Default [`Synchronous::Full`].
    pub const fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How large the file may become; a step that finds no room is refused as `Full`. Default: as large as the disk.
    ///
    /// It is this store's bound, in whole pages. Other processes need the same, and the log beside the file is not counted.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Judges time by this clock, which every process on the file must share. Default: that of the host, see the
    /// [module](super).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// As [`SqliteStore::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        self.try_open(path.as_ref()).await.map_err(Fault::into_error)
    }

    /// As [`SqliteStore::with_pool`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn with_pool(self, pool: SqlitePool) -> Result<SqliteStore, StoreError> {
        self.try_with_pool(pool).await.map_err(Fault::into_error)
    }

    async fn try_open(self, path: &Path) -> Result<SqliteStore, Fault> {
        self.validate()?;
        let whole = require_place(path)?;
        // A whole path is never one of the names that SQLite takes for something else, as `file:` and `:memory:`.
        let options = SqliteConnectOptions::new().filename(whole).create_if_missing(true);
        let user = SqlitePoolOptions::new()
            .max_connections(USER_CONNECTIONS)
            .connect_lazy_with(self.options(&options).create_if_missing(false));
        self.start(options, user, true).await
    }

    async fn try_with_pool(self, pool: SqlitePool) -> Result<SqliteStore, Fault> {
        self.validate()?;
        let options = SqliteConnectOptions::clone(&pool.connect_options());
        self.start(options, pool, false).await
    }

    /// `ours`: the file is the store's, so what is missing is made.
    async fn start(self, options: SqliteConnectOptions, user: SqlitePool, ours: bool) -> Result<SqliteStore, Fault> {
        let path = options.get_filename().into();
        let mut options = self.options(&options);
        if ours {
            // Made once: who finds it gone later must not begin anew.
            drop(SqliteConnection::connect_with(&options).await?);
            options = options.create_if_missing(false);
        }
        let max_bytes = self.max_bytes;
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(self.lock_timeout.max(OPEN_TIMEOUT))
                .acquire_slow_threshold(Duration::MAX)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_connect(move |connection, _| Box::pin(bound(connection, max_bytes)))
                .after_release(|connection, _| Box::pin(is_free(connection)))
        };
        let commits = Commits::default();
        let (guarding, releasing) = (commits.clone(), commits.clone());
        let write = pool()
            .max_connections(1)
            .acquire_timeout(self.lock_timeout)
            .after_connect(move |connection, _| {
                let commits = guarding.clone();
                Box::pin(async move {
                    commits.allow();
                    bound(connection, max_bytes).await?;
                    connection.lock_handle().await?.set_commit_hook(move || commits.allowed());
                    Ok(())
                })
            })
            .after_release(move |connection, _| {
                releasing.allow();
                Box::pin(is_free(connection))
            });
        let connections = Connections {
            commits,
            write: write.connect_lazy_with(options.clone()),
            read: pool().max_connections(READ_CONNECTIONS).connect_lazy_with(options.clone()),
            late: pool().max_connections(LATE_CONNECTIONS).connect_lazy_with(options.busy_timeout(Duration::ZERO)),
            user,
        };
        let clock = {
            let mut connection = connections.write.acquire().await?;
            self.require_wal(&mut connection, ours).await?;
            table::require_schema(&mut connection, ours).await?;
            match self.clock {
                Some(clock) => clock,
                None => table::host_clock(&mut connection).await?,
            }
        };
        let timeline = Arc::new(Timeline::new(clock));
        let writer = Writer::spawn(connections.write.clone(), Arc::clone(&timeline));
        Ok(SqliteStore(Arc::new(Inner { path, writer, timeline, connections })))
    }

    fn options(&self, base: &SqliteConnectOptions) -> SqliteConnectOptions {
        let synchronous = match self.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        };
        base.clone().busy_timeout(self.lock_timeout).synchronous(synchronous).disable_statement_logging()
    }

    fn validate(&self) -> Result<(), Fault> {
        if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&self.lock_timeout) {
            Ok(())
        } else {
            Err(Fault::misconfigured("`lock_timeout` is not between 1 ms and 1 hour: write `Duration::from_secs(5)`"))
        }
    }

    /// Requires the write-ahead log, in which readers and the writer do not wait for each other.
    async fn require_wal(&self, connection: &mut SqliteConnection, ours: bool) -> Result<(), Fault> {
        let statement = if ours { "PRAGMA journal_mode = WAL" } else { "PRAGMA journal_mode" };
        let until = Instant::now() + self.lock_timeout;
        loop {
            match sqlx::query_scalar::<_, String>(statement).fetch_one(&mut *connection).await {
                Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
                Ok(mode) if mode.eq_ignore_ascii_case("memory") => {
                    return Err(Fault::misconfigured("a database in memory keeps nothing: open a file"));
                }
                Ok(_) if ours => {
                    return Err(Fault::misconfigured(
                        "the file cannot have a write-ahead log: its file system shares no memory, or it is read-only",
                    ));
                }
                Ok(_) => {
                    return Err(Fault::misconfigured(
                        "the file has no write-ahead log: set `journal_mode(SqliteJournalMode::Wal)` on the pool",
                    ));
                }
                // SQLite does not wait here by itself: another process changes the mode, or recovers the file.
                Err(error) if fault::is_locked(&error) && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(Fault::of(&error)),
            }
        }
    }
}

const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long a connection that needs no lock is waited for: it may have to be opened, on a slow machine.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

const READ_CONNECTIONS: u32 = 4;
const LATE_CONNECTIONS: u32 = 4;
const USER_CONNECTIONS: u32 = 5;

/// What SQLite takes for a database of its own instead of for a file.
const IN_MEMORY: &str = ":memory:";

/// The whole path of the file, in a directory that is there.
fn require_place(path: &Path) -> Result<PathBuf, Fault> {
    if path.as_os_str().is_empty() || path == Path::new(IN_MEMORY) {
        return Err(Fault::misconfigured("a database in memory keeps nothing: name a file, or take `MemoryStore`"));
    }
    if let Some(file) = path.to_str().and_then(|path| path.strip_prefix("sqlite:")) {
        let file = file.trim_start_matches("//");
        return Err(Fault::misconfigured(format!("a path is asked for, not a URL: write `{file}`")));
    }
    let whole =
        std::path::absolute(path).map_err(|error| Fault::misconfigured(format!("the path is none: {error}")))?;
    let name = path.display();
    if whole.is_dir() {
        return Err(Fault::misconfigured(format!("`{name}` is a directory: name a file in it")));
    }
    match whole.parent() {
        Some(directory) if !directory.is_dir() => {
            let directory = directory.display();
            Err(Fault::misconfigured(format!("`{directory}` is not a directory: create it, or name a file elsewhere")))
        }
        _ => Ok(whole),
    }
}

/// Bounds what this connection lets the file become.
async fn bound(connection: &mut SqliteConnection, max_bytes: Option<u64>) -> Result<(), sqlx::Error> {
    let Some(bytes) = max_bytes else { return Ok(()) };
    let page: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *connection).await?;
    // A file has at most 2^32 - 2 pages.
    let pages = (bytes / u64::try_from(page).unwrap_or(4096).max(1)).clamp(1, 0xffff_fffe);
    connection.execute(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).await?;
    Ok(())
}

/// Whether the driver and SQLite agree that no transaction is open. If not, the connection is closed.
async fn is_free(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may be on its way still.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}
