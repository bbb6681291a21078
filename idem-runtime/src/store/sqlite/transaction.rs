//! Records that are part of the handler's own transaction.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{
    BEGIN, Connections, SqliteStore,
    fault::{self, Fault},
};
use crate::store::{Begun, Claim, Claimed, Complete, Ownership, StoreError, Transactions};

/// An open transaction of the store. What it derefs to is the driver's connection.
pub struct SqliteTransaction {
    open: Transaction<'static, Sqlite>,
    /// Of the write connection; `None`: it is on another one.
    commits: Option<Commits>,
}

/// Whether anything may be committed on the write connection: not while a handler has a transaction in which a key was
/// claimed. SQLite itself ends a transaction in which the disk was full; what the handler writes after that would be
/// committed by itself, statement by statement, and without a record.
#[derive(Debug, Clone)]
pub(super) struct Commits(Arc<AtomicBool>);

/// For a claim that waited in vain for the write lock. Whose key the other transaction has claimed cannot be seen
/// before it commits: it may be this one.
const BUSY: Claimed = Claimed::Busy { retry_after: Duration::from_secs(1) };

impl Default for Commits {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Commits {
    pub(super) fn allow(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn forbid(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub(super) fn allowed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl SqliteTransaction {
    /// The handler has it, and a key was claimed in it.
    fn forbid_commits(&self) {
        if let Some(commits) = &self.commits {
            commits.forbid();
        }
    }

    /// The handler has it no longer.
    fn allow_commits(&self) {
        if let Some(commits) = &self.commits {
            commits.allow();
        }
    }
}

impl Deref for SqliteTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.open
    }
}

impl DerefMut for SqliteTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.open
    }
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteTransaction(..)")
    }
}

impl SqliteStore {
    /// Takes the write lock, or waits for it in vain.
    async fn begin_to_write(&self) -> Result<SqliteTransaction, sqlx::Error> {
        let Connections { write, commits, .. } = &self.0.connections;
        let open = write.begin_with(BEGIN).await?;
        Ok(SqliteTransaction { open, commits: Some(commits.clone()) })
    }
}

#[async_trait]
impl Transactions for SqliteStore {
    type Connection = SqliteConnection;
    type Transaction = SqliteTransaction;

    /// Waits for the write lock, and holds it until the end of the transaction. One that does not get it within
    /// `lock_timeout` can read, and its claim is told [`Claimed::Busy`] at once.
    async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        let begun = match self.begin_to_write().await {
            Err(error) if fault::is_locked(&error) => {
                let open = self.0.connections.late.begin().await;
                open.map(|open| SqliteTransaction { open, commits: None })
            }
            begun => begun,
        };
        begun.map_err(|error| Fault::of(&error).into_error())
    }

    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<SqliteTransaction>, StoreError> {
        let mut transaction = match self.begin_to_write().await {
            Ok(transaction) => transaction,
            Err(error) if fault::is_locked(&error) => {
                // What changes nothing is known without the lock.
                let known = self.look(&claim).await.map_err(Fault::into_error)?;
                return Ok(Begun::NotWon(known.unwrap_or(BUSY)));
            }
            Err(error) => return Err(Fault::of(&error).into_error()),
        };
        match self.claim_in(&mut transaction, claim).await {
            Ok(Claimed::Won { fence, attempt }) => {
                transaction.forbid_commits();
                Ok(Begun::Won { transaction, fence, attempt })
            }
            // The claim may have made it so, and somebody is to settle it.
            Ok(claimed @ Claimed::Unknown { .. }) => {
                self.commit(transaction).await?;
                Ok(Begun::NotWon(claimed))
            }
            not_won => {
                self.rollback(transaction).await;
                not_won.map(Begun::NotWon)
            }
        }
    }

    async fn claim_in(&self, connection: &mut SqliteConnection, claim: Claim) -> Result<Claimed, StoreError> {
        let claimed = self.join(connection, claim).await?;
        Ok(claimed.unwrap_or(BUSY))
    }

    async fn complete_in(
        &self,
        connection: &mut SqliteConnection,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        self.join(connection, complete.clone()).await?.ok_or_else(|| Fault::locked().into_error())
    }

    async fn commit(&self, transaction: SqliteTransaction) -> Result<(), StoreError> {
        transaction.allow_commits();
        transaction.open.commit().await.map_err(|error| Fault::of_commit(&error).into_error())
    }

    async fn complete_and_commit(
        &self,
        mut transaction: SqliteTransaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        transaction.allow_commits();
        match self.complete_in(&mut transaction, complete).await {
            Ok(Ownership::Held) => self.commit(transaction).await.map(|()| Ownership::Held),
            not_held => {
                self.rollback(transaction).await;
                not_held.map_err(StoreError::not_committed)
            }
        }
    }

    async fn rollback(&self, transaction: SqliteTransaction) {
        roll_back(transaction.open).await;
    }
}

/// Rolls back. Where that fails, SQLite has done it already, and the driver does not know: the connection is then
/// closed as it returns to its pool.
pub(super) async fn roll_back(transaction: Transaction<'static, Sqlite>) {
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(fault = %Fault::of(&error), "a transaction was rolled back by SQLite itself");
    }
}
