//! Records in a SQLite file: the durable store of a service that runs on one host.
//!
//! ```no_run
//! # async fn example() -> Result<(), idem_runtime::store::StoreError> {
//! use idem_runtime::SqliteStore;
//!
//! let store = SqliteStore::open("/var/lib/shop/idempotency.db").await?;
//! # Ok(())
//! # }
//! ```
//!
//! In a file that holds the service's own tables, so that a handler's statements and its record can be one
//! [transaction](super::Transactions):
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use idem_runtime::{SqliteStore, store::sqlite::driver::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool}};
//!
//! let options = SqliteConnectOptions::new().filename("/var/lib/shop/shop.db").journal_mode(SqliteJournalMode::Wal);
//! let pool = SqlitePool::connect_with(options).await?;
//! SqliteStore::migrate(&pool).await?;
//! let store = SqliteStore::with_pool(pool).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! A won claim and a completion are a commit each, and a commit is an `fsync`. Steps that wait at once are committed
//! together: on two busy cores and one virtual disk there were 700 to 800 guarded requests a second over one HTTP
//! connection, and 3,100 to 3,600 over 64. A replay, like every single claim that changes nothing, is one read: no lock, no
//! `fsync`, and it waits for no writer (in a transaction, and in a batch of claims, it waits for the lock); there were 15,000 to
//! 16,400 a second over 32 connections.
//!
//! A transaction of a handler is one commit. The store adds two statements to those of the handler, one for the claim and
//! one for the answer, unless it finds what it seldom finds.
//!
//! [`Synchronous::Normal`] leaves out the `fsync`, and with it the promise: see there.
//!
//! # What it holds to
//!
//! - What was answered is on the disk. A killed process loses nothing, and with [`Synchronous::Full`] a power cut neither.
//! - Several processes on one host share one file. Each step decides under the file's one write lock.
//! - Time is the file's: it counts from the host's start, as the first process that opened the file after that start wrote
//!   it down. Setting the wall clock moves nothing, also for processes that start afterwards. It never runs back behind the
//!   last fence that was given, whatever the clock says after a restart. Where the system does not tell when it started
//!   (on Linux it does), each process goes by the wall clock as it was when the store was opened.
//! - Fences grow over the whole file, not only for each key.
//! - Every 32 steps, those in transactions among them, the writer drops records past their time, and answers past theirs: of
//!   each up to four for each step since the last time. The file does not shrink: what they took is used again.
//! - Where there is no room a step is refused with [`Full`](crate::store::StoreErrorKind::Full), and its neighbours of the
//!   same commit are not. Replays go on.
//! - A lock that somebody else holds for longer than [`lock_timeout`](SqliteStoreBuilder::lock_timeout) refuses a step with
//!   [`Unreachable`](crate::store::StoreErrorKind::Unreachable): it was not taken.
//!
//! # What lies where
//!
//! A record is the row of `idem_records` whose `key` is the 32 bytes of the storage key: `WHERE key = x'HEX'`, with the digits that
//! `{:x}` writes of a [`StorageKey`].
//!
//! # Transactions
//!
//! [`begin`](super::Transactions::begin) takes the write lock, so that handlers in a transaction run one after the
//! other, and all other claims that must write wait for them, and so do completions and renewals. Keep them short, far
//! under a third of the shortest lease: a call to another service does not belong there. They queue for one connection
//! in the order in which they come, and hold none while they wait.
//!
//! When the lock comes free owners go first: renewals that were refused meanwhile, then renewals and completions that wait, then
//! claims. So a transaction that was longer than a lease lets nobody of its own process take over what still runs there. Another
//! process on the same file may: its claims do not know of what waits here.
//!
//! SQLite has one lock for the whole file, and shows nobody what is not committed. So a claim that waited in vain, and is not
//! a replay, is told [`Busy`](Claimed::Busy), whichever key the transaction is about that it waited for.
//!
//! # What it cannot hold to
//!
//! - One host. On a network file system (NFS, SMB) SQLite's locks and its shared memory do not work, and two hosts would both
//!   win; SQLite cannot always tell. Take Postgres or Redis there.
//! - A disk that says that it wrote what it did not.
//! - A copy of the database file alone is no backup: the newest records are in the log beside it, `FILE-wal`. Write
//!   `VACUUM INTO 'copy.db'`, or use the shell's `.backup`. Whoever goes back to a backup forgets what came after it, and that
//!   runs again.
//! - Moving or deleting the file under a running service: connections that are open go on with the file that they opened, and new ones
//!   find none.

mod builder;
mod fault;
mod host;
mod row;
mod step;
mod table;
mod transaction;
mod writer;

use std::{fmt, path::Path, sync::Arc};

use async_trait::async_trait;
use sqlx::{SqliteConnection, SqlitePool};

pub use self::{
    builder::{SqliteStoreBuilder, Synchronous},
    transaction::SqliteTransaction,
};
use self::{
    fault::Fault,
    step::{Change, Forget, Step, Timeline},
    transaction::Commits,
    writer::Writer,
};
use super::{
    Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved, Store,
    StoreError,
};
use crate::key::StorageKey;

/// The driver whose types [`SqliteStore::with_pool`] and [`Transactions`](super::Transactions) speak.
pub use ::sqlx as driver;

/// Records in a SQLite file. Cheap to clone: clones share the connections. Needs the runtime that it was opened on.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    /// As it was given: for people.
    path: Box<Path>,
    writer: Writer,
    timeline: Arc<Timeline>,
    connections: Connections,
}

/// Apart from each other, so that whoever waits for one kind leaves the others alone.
struct Connections {
    /// One connection, for which the writer and the transactions of handlers queue.
    write: SqlitePool,
    /// For claims that change nothing, and for lists.
    read: SqlitePool,
    /// For transactions that did not get the write lock in time: they do not wait for it again.
    late: SqlitePool,
    /// The user's.
    user: SqlitePool,
    commits: Commits,
}

/// Begins with the write lock.
const BEGIN: &str = "BEGIN IMMEDIATE";

impl SqliteStore {
    /// The tables that the store needs, as SQL: for who reviews it, or has migrations of their own.
    pub const SCHEMA: &'static str = table::SCHEMA;

    /// A store in this file, with the options' defaults. The file is created if it is missing, and its tables too.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the directory is missing, the file is none of SQLite's, cannot be written to, or has tables of
    /// another version. `Unreachable`: somebody holds its lock.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path).await
    }

    /// A store in the file of this pool, in which the service has tables of its own.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and where the tables of the store are missing: [`migrate`](Self::migrate) makes them.
    pub async fn with_pool(pool: SqlitePool) -> Result<Self, StoreError> {
        Self::builder().with_pool(pool).await
    }

    /// The options, before one of them opens.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    /// Makes the tables of the store in the file of this pool, unless they are there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
        let made = async { table::require_schema(&mut *pool.acquire().await?, true).await };
        made.await.map_err(Fault::into_error)
    }

    /// Connections to the same file for the service's own statements: the pool that was given, or one of five that are
    /// opened when they are needed. The store uses others.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.0.connections.user
    }

    /// What a claim finds, if it changes nothing: needs no lock and no `fsync`, and waits for nobody.
    async fn look(&self, claim: &Claim) -> Result<Option<Claimed>, Fault> {
        let mut connection = self.0.connections.read.acquire().await?;
        let (last_fence, found) = table::look(&mut connection, &claim.key).await?;
        let (change, claimed) = claim.judge(found, &mut self.0.timeline.at(last_fence));
        Ok(matches!(change, Change::None).then_some(claimed))
    }

    async fn take<S: Step>(&self, step: S) -> Result<S::Done, StoreError> {
        self.0.writer.take(step).await.map_err(Fault::into_error)
    }

    async fn join<S: Step>(&self, connection: &mut SqliteConnection, step: S) -> Result<Option<S::Done>, StoreError> {
        let joined = table::join(connection, &self.0.timeline, step).await.map_err(Fault::into_error)?;
        self.0.writer.note_step();
        Ok(joined)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        match self.look(&claim).await.map_err(Fault::into_error)? {
            Some(claimed) => Ok(claimed),
            None => self.take(claim).await,
        }
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let claimed = self.0.writer.take_all(claims.iter().copied()).await;
        claimed.into_iter().map(|claimed| claimed.map_err(Fault::into_error)).collect()
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.take(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.take(complete.clone()).await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.take(release).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.take(resolve.clone()).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        let listed = async { table::parked(&mut *self.0.connections.read.acquire().await?, &parked).await };
        listed.await.map_err(Fault::into_error)
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.take(Forget(key)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let read = async {
            table::look(&mut *self.0.connections.read.acquire().await?, &StorageKey::from_bytes([0; 32])).await
        };
        read.await.map(drop).map_err(Fault::into_error)
    }
}

#[cfg(feature = "redis")]
#[async_trait]
impl super::tiered::Authority for SqliteStore {
    async fn kept(&self, keys: &[StorageKey]) -> Result<Vec<super::tiered::Kept>, StoreError> {
        let kept = async {
            let (mut connection, mut kept) = (self.0.connections.read.acquire().await?, Vec::new());
            for key in keys {
                let (last_fence, found) = table::look(&mut connection, key).await?;
                kept.extend(found.kept(*key, &self.0.timeline.at(last_fence)));
            }
            Ok(kept)
        };
        kept.await.map_err(Fault::into_error)
    }
}
