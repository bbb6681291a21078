//! Records that are part of the handler's own transaction.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Row as _, SqlSafeStr, Transaction};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{PostgresStore, TRIES, fault::Fault, link::simple};
use crate::store::{Begun, Claim, Claimed, Complete, Ownership, StoreError, StoreErrorKind, Transactions};

/// What transactions are begun with.
pub(super) struct Transacting {
    pub(super) pool: PgPool,
    /// One for each transaction that may be open: who waits for one waits here, not for a connection that never comes
    /// while the server is away.
    pub(super) places: Arc<Semaphore>,
    pub(super) begin: Arc<str>,
    /// Told when a transaction could not be begun, or a step in one was not answered.
    pub(super) away: Notify,
    pub(super) lock_timeout: Duration,
    pub(super) acquire_timeout: Duration,
}

/// An open transaction of the store. What it derefs to is the driver's connection.
pub struct PostgresTransaction {
    transaction: Transaction<'static, Postgres>,
    _place: OwnedSemaphorePermit,
}

impl Deref for PostgresTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for PostgresTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresTransaction(..)")
    }
}

/// Ends whatever transaction a connection may be inside. `false`: it does not answer and is to be closed.
pub(super) async fn clear(connection: &mut PgConnection, limit: Duration) -> Result<bool, sqlx::Error> {
    // Without a transaction to end, `ROLLBACK` alone writes a warning into the server's log.
    match timeout(limit, connection.execute(sqlx::raw_sql("BEGIN; ROLLBACK"))).await {
        Ok(cleared) => Ok(cleared.is_ok()),
        Err(_) => Ok(false),
    }
}

impl PostgresStore {
    async fn try_begin(&self) -> Result<PostgresTransaction, Fault> {
        let Transacting { pool, places, begin, away, acquire_timeout, .. } = &self.inner.transacting;
        let free = pin!(timeout(*acquire_timeout, places.clone().acquire_owned()));
        let place = match select(pin!(away.notified()), free).await {
            Either::Right((Ok(Ok(place)), _)) => place,
            Either::Right(_) => {
                return Err(Fault::unreachable(
                    "as many transactions as may be were open for the whole acquire time-out",
                ));
            }
            Either::Left(_) => return Err(Fault::unreachable("the server does not answer others")),
        };
        let limit = self.inner.link.budget;
        let begun = timeout(limit, async {
            let mut connection = pool.acquire().await?;
            // The store's own were cleared when they were given back.
            while self.inner.link.is_given() && !clear(&mut connection, limit).await? {
                connection.close_on_drop();
                connection = pool.acquire().await?;
            }
            let begin = AssertSqlSafe(begin.clone()).into_sql_str();
            Transaction::begin(connection, Some(begin)).await
        });
        let fault = match begun.await {
            Ok(Ok(transaction)) => return Ok(PostgresTransaction { transaction, _place: place }),
            Ok(Err(error)) => Fault::from(error).before_sending(),
            Err(_) => Fault::unreachable("no connection within the command time-out"),
        };
        // Those that wait for a place would each find out for themselves, a few at a time.
        away.notify_waiters();
        Err(fault)
    }

    async fn try_claim_in(&self, connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, Fault> {
        let lock_timeout = self.inner.transacting.lock_timeout;
        // The savepoint, for a lock time-out undoes all back to it; and the caller's own lock time-out.
        let text = format!(
            "SAVEPOINT idem_claim; SELECT current_setting('lock_timeout') AS before; SET LOCAL lock_timeout = {}",
            lock_timeout.as_millis().clamp(1, 2_147_483_647),
        );
        let before: String = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(text))).await?.try_get("before")?;
        let claimed = self.claim_on(connection, claim).await;
        match claimed {
            Err(fault) if fault.is_locked() => {
                simple(connection, "ROLLBACK TO SAVEPOINT idem_claim; RELEASE SAVEPOINT idem_claim".into()).await?;
                Ok(Claimed::Busy { retry_after: BUSY })
            }
            Err(fault) => Err(fault),
            Ok(claimed) => {
                // It is the server's own word, quoted all the same.
                let before = before.replace('\'', "''");
                let text = format!("RELEASE SAVEPOINT idem_claim; SET LOCAL lock_timeout = '{before}'");
                simple(connection, text.into()).await?;
                Ok(claimed)
            }
        }
    }

    /// A step in a transaction, which no other connection can take again.
    async fn within<T>(
        &self,
        limit: Duration,
        doing: &str,
        step: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, StoreError> {
        let fault = match timeout(limit, step).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => {
                self.inner.transacting.away.notify_waiters();
                Fault::silent()
            }
        };
        Err(fault.after_sending().into_error(doing))
    }

    async fn claim_on(&self, connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, Fault> {
        let statement = self.inner.texts.claim(&[claim]);
        for _ in 0..TRIES {
            let reply = self.inner.link.send(connection, &statement).await?;
            let Some(row) = reply.rows.into_iter().next() else { continue };
            let stale = row.is_stale(claim);
            let Some(claimed) = row.claimed(claim) else { continue };
            if !stale {
                return Ok(claimed);
            }
            let reply = self.inner.link.send(connection, &self.inner.texts.refresh(claim)).await?;
            return Ok(reply.rows.into_iter().next().and_then(|row| row.claimed(claim)).unwrap_or(claimed));
        }
        // A transaction that sees what was before it began cannot see whose the record is now.
        Err(Fault::new(StoreErrorKind::Conflict, "the record changes faster than it can be claimed"))
    }
}

#[async_trait]
impl Transactions for PostgresStore {
    type Connection = PgConnection;
    type Transaction = PostgresTransaction;

    async fn begin(&self) -> Result<PostgresTransaction, StoreError> {
        self.try_begin().await.map_err(|fault| fault.into_error("begin"))
    }

    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<PostgresTransaction>, StoreError> {
        let mut transaction = self.begin().await?;
        match self.claim_in(&mut transaction, claim).await {
            Ok(Claimed::Won { fence, attempt }) => Ok(Begun::Won { transaction, fence, attempt }),
            not_won => {
                self.rollback(transaction).await;
                not_won.map(Begun::NotWon)
            }
        }
    }

    async fn claim_in(&self, connection: &mut PgConnection, claim: Claim) -> Result<Claimed, StoreError> {
        let limit = self.inner.transacting.lock_timeout + self.inner.link.budget;
        self.within(limit, "claim", self.try_claim_in(connection, &claim)).await
    }

    async fn complete_in(&self, connection: &mut PgConnection, complete: Complete) -> Result<Ownership, StoreError> {
        let statement = self.inner.texts.complete(&complete);
        let completing = self.inner.link.send(connection, &statement);
        self.within(self.inner.link.budget, "complete", completing).await.map(|reply| super::ownership(&reply))
    }

    async fn commit(&self, transaction: PostgresTransaction) -> Result<(), StoreError> {
        let committing = async {
            let mut transaction = transaction.transaction;
            // Where a statement failed before, `COMMIT` rolls back and says nothing of it. This one says it.
            simple(&mut transaction, "SELECT".into()).await?;
            Ok(transaction.commit().await?)
        };
        self.within(self.inner.link.budget, "commit", committing).await
    }

    async fn complete_and_commit(
        &self,
        mut transaction: PostgresTransaction,
        complete: Complete,
    ) -> Result<Ownership, StoreError> {
        match self.complete_in(&mut transaction, complete).await {
            Ok(Ownership::Held) => self.commit(transaction).await.map(|()| Ownership::Held),
            not_held => {
                self.rollback(transaction).await;
                not_held.map_err(StoreError::not_committed)
            }
        }
    }

    async fn rollback(&self, transaction: PostgresTransaction) {
        // One that does not answer is closed when it comes back to the pool, and so rolled back.
        let _ = timeout(self.inner.link.budget, transaction.transaction.rollback()).await;
    }
}

/// What is said of somebody's open transaction, whose end nobody knows.
pub(super) const BUSY: Duration = Duration::from_secs(1);
