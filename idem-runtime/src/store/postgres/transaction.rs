//! Records that are part of the handler's own transaction.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Row as _, SqlSafeStr, Transaction};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{timeout, timeout_at},
};

use super::{PostgresStore, TRIES, fault::Fault, link::simple};
use crate::store::{Claim, Claimed, Complete, Ownership, StoreError, StoreErrorKind, Transactions};

/// What transactions are begun with.
pub(super) struct Transacting {
    pub(super) pool: PgPool,
    /// One for each transaction that may be open: who waits for one waits here, not for a connection that never comes
    /// while the server is away.
    pub(super) places: Arc<Semaphore>,
    pub(super) begin: Arc<str>,
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
        let Transacting { pool, places, begin, acquire_timeout, .. } = &self.inner.transacting;
        let place = match timeout(*acquire_timeout, places.clone().acquire_owned()).await {
            Ok(Ok(place)) => place,
            _ => {
                return Err(Fault::unreachable(
                    "as many transactions as may be were open for the whole acquire time-out",
                ));
            }
        };
        let deadline = tokio::time::Instant::now() + self.inner.link.budget;
        let beginning = async {
            // Connections that lay idle while the server was away break one after the other.
            loop {
                let mut connection = pool.acquire().await?;
                match clear(&mut connection, self.inner.link.budget).await {
                    Ok(true) => {
                        return Transaction::begin(connection, Some(AssertSqlSafe(begin.clone()).into_sql_str())).await;
                    }
                    _ => connection.close_on_drop(),
                }
            }
        };
        match timeout_at(deadline, beginning).await {
            Ok(Ok(transaction)) => Ok(PostgresTransaction { transaction, _place: place }),
            Ok(Err(error)) => Err(Fault::from(error).before_sending()),
            Err(_) => Err(Fault::unreachable("no connection within the command time-out")),
        }
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

    async fn claim_on(&self, connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, Fault> {
        let statement = self.inner.texts.claim(&[claim]);
        for _ in 0..TRIES {
            let reply = self.inner.link.send(connection, &statement).await?;
            let Some(row) = reply.rows.into_iter().next() else { continue };
            let stale = row.is_stale();
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

/// What is said of somebody's open transaction, whose end nobody knows.
pub(super) const BUSY: Duration = Duration::from_secs(1);

#[async_trait]
impl Transactions for PostgresStore {
    type Connection = PgConnection;
    type Transaction = PostgresTransaction;

    async fn begin(&self) -> Result<PostgresTransaction, StoreError> {
        self.try_begin().await.map_err(|fault| fault.into_error("begin"))
    }

    async fn claim_in(&self, connection: &mut PgConnection, claim: Claim) -> Result<Claimed, StoreError> {
        let limit = self.inner.transacting.lock_timeout + self.inner.link.budget;
        match timeout(limit, self.try_claim_in(connection, &claim)).await {
            Ok(claimed) => claimed.map_err(|fault| fault.into_error("claim")),
            Err(_) => Err(Fault::silent().into_error("claim")),
        }
    }

    async fn complete_in(&self, connection: &mut PgConnection, complete: Complete) -> Result<Ownership, StoreError> {
        let statement = self.inner.texts.complete(&complete);
        match timeout(self.inner.link.budget, self.inner.link.send(connection, &statement)).await {
            Ok(Ok(reply)) => Ok(super::ownership(&reply)),
            Ok(Err(fault)) => Err(fault.into_error("complete")),
            Err(_) => Err(Fault::silent().into_error("complete")),
        }
    }

    async fn commit(&self, transaction: PostgresTransaction) -> Result<(), StoreError> {
        match timeout(self.inner.link.budget, transaction.transaction.commit()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::from(error).after_sending().into_error("commit")),
            Err(_) => Err(Fault::silent().into_error("commit")),
        }
    }

    async fn rollback(&self, transaction: PostgresTransaction) {
        // One that does not answer is closed when it comes back to the pool, and so rolled back.
        let _ = timeout(self.inner.link.budget, transaction.transaction.rollback()).await;
    }
}
