//! Records that are part of the handler's own transaction.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{Either, join, select};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Postgres, SqlSafeStr, Transaction};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Inner, PostgresStore, TRIES,
    fault::Fault,
    link::{COMMIT, ROLLBACK, Reply, Source, simple},
    own::{Own, Taken},
    row::Inserted,
    statement::Statement,
};
use crate::store::{Begun, Claim, Claimed, Complete, Ownership, StoreError, StoreErrorKind, Transactions};

/// What transactions are begun with.
pub(super) struct Transacting {
    pub(super) source: Source,
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
    open: Open,
    _place: OwnedSemaphorePermit,
}

enum Open {
    /// Closed, and so rolled back, unless it is put back.
    Own(Taken),
    Users(Transaction<'static, Postgres>),
}

impl Open {
    async fn commit(self) -> Result<(), Fault> {
        match self {
            Self::Own(mut taken) => {
                let committed = simple(taken.get(), COMMIT).await;
                // The server ends a transaction whose `COMMIT` it refuses.
                if committed.as_ref().map_or_else(|fault| !fault.broken, |()| true) {
                    taken.put_back();
                }
                committed
            }
            Self::Users(transaction) => Ok(transaction.commit().await?),
        }
    }

    async fn rollback(self) -> Result<(), Fault> {
        match self {
            Self::Own(mut taken) => {
                simple(taken.get(), ROLLBACK).await?;
                taken.put_back();
                Ok(())
            }
            Self::Users(transaction) => Ok(transaction.rollback().await?),
        }
    }
}

impl Deref for PostgresTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.open {
            Open::Own(taken) => taken.shared(),
            Open::Users(transaction) => transaction,
        }
    }
}

impl DerefMut for PostgresTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.open {
            Open::Own(taken) => taken.get(),
            Open::Users(transaction) => transaction,
        }
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

/// Begins a transaction on a connection of the store's own.
///
/// The driver counts the transactions that are open, so that one inside is a savepoint. It is told of the first one, and never
/// that it has ended: handlers see the connection only inside of one. `BEGIN`, `COMMIT` and `ROLLBACK` are the store's own
/// messages, and nothing is sent before them or after them to find out what the store knows.
async fn open(connection: &mut PgConnection, begin: &Arc<str>) -> Result<(), Fault> {
    let begin = AssertSqlSafe(begin.clone());
    if connection.is_in_transaction() {
        return simple(connection, begin).await;
    }
    // Dropped, it would roll back.
    mem::forget(connection.begin_with(begin).await?);
    Ok(())
}

/// A transaction on a connection of the store's own.
async fn open_own(own: &Arc<Own>, begin: &Arc<str>, deadline: Instant) -> Result<Open, Fault> {
    loop {
        let mut taken = own.take(deadline).await?;
        match timeout_at(deadline, open(taken.get(), begin)).await {
            Ok(Ok(())) => return Ok(Open::Own(taken)),
            // Those that lay idle while the server was away break one after the other.
            Ok(Err(_)) if !taken.fresh => {}
            Ok(Err(fault)) => return Err(fault.before_sending()),
            Err(_) => {
                taken.silent();
                return Err(Fault::unreachable("no answer within the command time-out"));
            }
        }
    }
}

/// A transaction on a connection of the user's.
async fn open_users(pool: &PgPool, begin: &Arc<str>, limit: Duration) -> Result<Open, Fault> {
    let begun = timeout(limit, async {
        let mut connection = pool.acquire().await?;
        while !clear(&mut connection, limit).await? {
            connection.close_on_drop();
            connection = pool.acquire().await?;
        }
        Transaction::begin(connection, Some(AssertSqlSafe(begin.clone()).into_sql_str())).await
    });
    match begun.await {
        Ok(Ok(transaction)) => Ok(Open::Users(transaction)),
        Ok(Err(error)) => Err(Fault::from(error).before_sending()),
        Err(_) => Err(Fault::unreachable("no connection within the command time-out")),
    }
}

impl PostgresStore {
    async fn try_begin(&self) -> Result<PostgresTransaction, Fault> {
        let Transacting { source, places, begin, away, acquire_timeout, .. } = &self.inner.transacting;
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
        let opened = match source {
            Source::Own(own) => open_own(own, begin, Instant::now() + limit).await,
            Source::Users(pool) => open_users(pool, begin, limit).await,
        };
        match opened {
            Ok(open) => Ok(PostgresTransaction { open, _place: place }),
            Err(fault) => {
                // Those that wait for a place would each find out for themselves, a few at a time.
                away.notify_waiters();
                Err(fault)
            }
        }
    }

    /// In a transaction that goes on whatever becomes of the claim: a lock time-out undoes all back to a savepoint.
    async fn try_claim_in(&self, connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, Fault> {
        simple(connection, "SAVEPOINT idem_claim").await?;
        let claimed = self.claim_on(connection, claim).await;
        match &claimed {
            Ok(Claimed::Won { .. }) => simple(connection, "RELEASE SAVEPOINT idem_claim").await?,
            Ok(_) => {
                let unlimit = &self.inner.texts.unlimit;
                simple(connection, AssertSqlSafe(format!("{unlimit}; RELEASE SAVEPOINT idem_claim"))).await?;
            }
            Err(fault) if fault.waited_in_vain() => {
                simple(connection, "ROLLBACK TO SAVEPOINT idem_claim; RELEASE SAVEPOINT idem_claim").await?;
            }
            Err(_) => {}
        }
        busy_if_in_vain(claimed)
    }

    /// A claim in a transaction, which waits for others; `None`: it does so still, and in vain.
    ///
    /// The server ends each wait for a lock, not their sum: whoever had the row may roll back, and the next one have
    /// it. So a claim that is not answered in time says nothing of the server, which is asked whether it is there.
    async fn claimed(
        &self,
        claiming: impl Future<Output = Result<Claimed, Fault>> + Send,
    ) -> Result<Option<Claimed>, StoreError> {
        let Inner { link, texts, transacting, .. } = &*self.inner;
        let mut claiming = pin!(claiming);
        let half = link.budget / 2;
        // The time for which one lock is waited for, and the server's word that this was in vain.
        let answered = match timeout(transacting.lock_timeout + half, &mut claiming).await {
            Ok(answered) => answered,
            Err(_) => match join(timeout(half, claiming), timeout(half, link.ask(&texts.nothing()))).await {
                (Ok(answered), _) => answered,
                (Err(_), Ok(Ok(_))) => return Ok(None),
                (Err(_), _) => return Err(self.silent("claim")),
            },
        };
        answered.map(Some).map_err(|fault| fault.after_sending().into_error("claim"))
    }

    /// A step in a transaction, which no other connection can take again.
    async fn within<T>(
        &self,
        limit: Duration,
        doing: &str,
        step: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, StoreError> {
        match timeout(limit, step).await {
            Ok(answered) => answered.map_err(|fault| fault.after_sending().into_error(doing)),
            Err(_) => Err(self.silent(doing)),
        }
    }

    /// The server does not answer: those that wait for a place are told.
    fn silent(&self, doing: &str) -> StoreError {
        self.inner.transacting.away.notify_waiters();
        Fault::silent().into_error(doing)
    }

    /// Waits for a commit. One that the server refuses, for a deferred constraint say, has undone the transaction.
    async fn committed(&self, committing: impl Future<Output = Result<(), Fault>> + Send) -> Result<(), StoreError> {
        let answered = async {
            match committing.await {
                Err(fault) if fault.is_refusal() => Ok(Err(fault)),
                committed => committed.map(Ok),
            }
        };
        let committed = self.within(self.inner.link.budget, "commit", answered).await?;
        committed.map_err(|refused| refused.into_error("commit").not_committed())
    }

    /// Claims as part of a transaction, and waits for others no longer than the store's lock time-out. Where it is won, the
    /// transaction's own one is again what it was; else it comes back with `unlimit`, or with what is rolled back.
    async fn claim_on(&self, connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, Fault> {
        let Inner { link, texts, .. } = &*self.inner;
        let inserted: Reply<Inserted> = link.send(connection, &texts.insert(claim)).await?;
        if let Some(inserted) = inserted.rows.first() {
            return match inserted.is_stale() {
                true => self.refresh_on(connection, claim, inserted.claimed()).await,
                false => Ok(inserted.claimed()),
            };
        }
        let mut statement = texts.first(claim);
        for _ in 0..TRIES {
            if let Some(claimed) = self.ask_on(connection, claim, &statement).await? {
                if matches!(claimed, Claimed::Won { .. }) {
                    simple(connection, AssertSqlSafe(texts.unlimit.clone())).await?;
                }
                return Ok(claimed);
            }
            statement = texts.claim(&[claim]);
        }
        // A transaction that sees what was before it began cannot see whose the record is now.
        Err(Fault::new(StoreErrorKind::Conflict, "the record changes faster than it can be claimed"))
    }

    /// Asks a claim once; `None`: the record is another one by now.
    async fn ask_on(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        statement: &Statement,
    ) -> Result<Option<Claimed>, Fault> {
        let reply: Reply = self.inner.link.send(connection, statement).await?;
        let Some(row) = reply.rows.into_iter().next() else { return Ok(None) };
        let stale = row.is_stale(claim);
        match row.claimed(claim) {
            Some(claimed) if stale => self.refresh_on(connection, claim, claimed).await.map(Some),
            claimed => Ok(claimed),
        }
    }

    /// Makes a record younger that waited to be written.
    async fn refresh_on(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        claimed: Claimed,
    ) -> Result<Claimed, Fault> {
        let reply: Reply = self.inner.link.send(connection, &self.inner.texts.refresh(claim)).await?;
        Ok(reply.rows.into_iter().next().and_then(|row| row.claimed(claim)).unwrap_or(claimed))
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
        let claiming = async { busy_if_in_vain(self.claim_on(&mut transaction, &claim).await) };
        match self.claimed(claiming).await {
            Ok(Some(Claimed::Won { fence, attempt })) => Ok(Begun::Won { transaction, fence, attempt }),
            // Whatever is wrong with the connection or what it leads to, the next one is another.
            Err(error) if error.kind() != StoreErrorKind::Conflict => Err(error),
            // The claim may have made it so, and somebody is to settle it.
            Ok(Some(claimed @ Claimed::Unknown { .. })) => {
                self.commit(transaction).await?;
                Ok(Begun::NotWon(claimed))
            }
            Ok(Some(claimed)) => {
                self.rollback(transaction).await;
                Ok(Begun::NotWon(claimed))
            }
            // Closed as it is: nothing can be sent behind a claim that is not answered.
            Ok(None) => Ok(Begun::NotWon(Claimed::Busy { retry_after: BUSY })),
            Err(conflict) => {
                self.rollback(transaction).await;
                Err(conflict)
            }
        }
    }

    async fn claim_in(&self, connection: &mut PgConnection, claim: Claim) -> Result<Claimed, StoreError> {
        let claimed = self.claimed(self.try_claim_in(connection, &claim)).await?;
        claimed.ok_or_else(|| {
            // Not busy, with which the transaction could go on: that claim may still be won in it.
            let why = "claim: others had the row, one after the other, for longer than the lock time-out";
            StoreError::new(StoreErrorKind::Conflict, why)
        })
    }

    async fn complete_in(&self, connection: &mut PgConnection, complete: &Complete) -> Result<Ownership, StoreError> {
        let statement = self.inner.texts.complete(complete);
        let completing = self.inner.link.send(connection, &statement);
        let reply: Reply = self.within(self.inner.link.budget, "complete", completing).await?;
        Ok(super::ownership(&reply))
    }

    async fn commit(&self, mut transaction: PostgresTransaction) -> Result<(), StoreError> {
        let committing = async {
            // Where a statement failed before, `COMMIT` rolls back and says nothing of it. This one says it.
            simple(&mut transaction, "SELECT").await?;
            transaction.open.commit().await
        };
        self.committed(committing).await
    }

    async fn complete_and_commit(
        &self,
        mut transaction: PostgresTransaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        match self.complete_in(&mut transaction, complete).await {
            // The completion would have said that a statement failed before.
            Ok(Ownership::Held) => self.committed(transaction.open.commit()).await.map(|()| Ownership::Held),
            not_held => {
                self.rollback(transaction).await;
                not_held.map_err(StoreError::not_committed)
            }
        }
    }

    async fn rollback(&self, transaction: PostgresTransaction) {
        // One that does not answer is closed, and so rolled back.
        let _ = timeout(self.inner.link.budget, transaction.open.rollback()).await;
    }
}

fn busy_if_in_vain(claimed: Result<Claimed, Fault>) -> Result<Claimed, Fault> {
    match claimed {
        Err(fault) if fault.waited_in_vain() => Ok(Claimed::Busy { retry_after: BUSY }),
        claimed => claimed,
    }
}

/// What is said of somebody's open transaction, whose end nobody knows.
pub(super) const BUSY: Duration = Duration::from_secs(1);
