//! Records in PostgreSQL 13 or later, on the primary.
//!
//! ```no_run
//! # async fn example() -> Result<(), idem_runtime::store::StoreError> {
//! use idem_runtime::PostgresStore;
//!
//! let url = "postgres://app:secret@10.0.0.1/shop";
//! PostgresStore::migrate(url).await?;
//! let store = PostgresStore::connect(url).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! A claim, a completion, a replay and a batch of claims are one statement and one round trip each, in a transaction of their own, over
//! a few connections of the store's own. A claim takes a second one where it takes over what was released, abandoned or is past
//! its time, and where somebody else wrote the same key in the same moment. A statement is prepared when a connection first
//! sends it, at one more round trip.
//!
//! A first execution in a [transaction](crate::store::Transactions) is four round trips and those of the handler: begin, claim,
//! complete, commit. A replay in one is four as well, for it is looked for as a new key first. Nothing is sent to find out
//! whether a connection still works: one on which nothing can be begun is closed, and the next one taken. A claim in a
//! transaction of the caller's own is three, four where it is not won, its completion one.
//!
//! With [`with_pool`](PostgresStoreBuilder::with_pool) a step is three round trips, behind a
//! [`transaction_pooler`](PostgresStoreBuilder::transaction_pooler) four. To begin a transaction on a pool of one's own takes one
//! more, and what the pool itself sends.
//!
//! A replay and a claim that is refused write nothing.
//!
//! # What it holds to
//!
//! - Time is the server's, as `clock_timestamp()` tells it. A lease is a value in the row.
//! - Claims work in `READ COMMITTED`, whatever the server's default is.
//! - A connection on which a step or a transaction did not come to its end is closed, so no claim is ever part of a transaction
//!   that somebody left open. On a pool of one's own, where other code can do so, every step ends it first.
//! - The handler's statements in a transaction wait for locks as long as their session says, its claim as long as
//!   [`lock_timeout`](PostgresStoreBuilder::lock_timeout) says. In between the session's own is remembered as
//!   `idem.lock_timeout`, which ends with the transaction.
//! - The table is that of the schema in which it was found, whatever search path a handler sets. A role that it sets
//!   needs what the login needs, until the record is completed: `RESET ROLE` at its end is enough.
//! - Rows past their time are absent to every claim, and deleted later: by a task of the store, in small batches, any
//!   number of replicas at once, never one in flight within its lease, unknown or parked.
//! - A fence grows over release and expiry by the row, and by the clock where the row is gone.
//!
//! # What it cannot hold to
//!
//! With `synchronous_commit = off`, a server that dies forgets its last answers, and they run a second time. So does a
//! standby that takes over without having them: set `synchronous_standby_names`, or know that the last moments can be lost.
//!
//! A server whose clock is set back makes the fences of keys without a row smaller than they were.
//!
//! # What lies where
//!
//! A record is the row of `idem_records`, or of the chosen table, whose `key` is the 32 bytes of the storage key:
//! `WHERE key = '\xHEX'`, with the digits that `{:x}` writes of a [`StorageKey`].
//!
//! # What the login needs
//!
//! `SELECT, INSERT, UPDATE, DELETE` on `idem_records` and `SELECT` on `idem_records_schema`, or the chosen names. To
//! [`migrate`](PostgresStore::migrate), also `CREATE` in the schema.

mod builder;
mod expiry;
mod fault;
mod link;
mod own;
mod row;
mod schema;
mod statement;
mod transaction;

use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;

pub use self::{
    builder::{Isolation, PostgresStoreBuilder},
    transaction::PostgresTransaction,
};
use self::{
    expiry::Sweeping,
    fault::Fault,
    link::{Link, Reply},
    row::Row,
    statement::{Statement, Texts},
    transaction::{BUSY, Transacting},
};
use super::{
    Claim, Claimed, Complete, Forgotten, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved, Store,
    StoreError, StoreErrorKind,
};
use crate::key::StorageKey;

/// The driver whose connections, pools and transactions these are.
pub use ::sqlx as driver;

/// Records in PostgreSQL. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
    _sweeping: Option<Arc<Sweeping>>,
}

struct Inner {
    link: Link,
    texts: Texts,
    transacting: Transacting,
    /// Address and database, for `Debug`.
    place: String,
    table: String,
}

/// How often a claim is asked that found its record changing under it.
const TRIES: usize = 10;

impl PostgresStore {
    /// The default table as SQL, for those who run their migrations themselves. Running it again changes nothing.
    pub const SCHEMA: &str = schema::SCHEMA;

    /// A store on one server, with the options' defaults: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with `?sslmode=`
    /// and the other parameters of the driver.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the URL, an option, the login, a version before 13, a standby, a read-only database, a table that is
    /// missing or of another version. `Unreachable`: no answer.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Makes the table if it is not there. Any number of replicas may do so at once: one makes it, for which the others wait as long as
    /// [`acquire_timeout`](PostgresStoreBuilder::acquire_timeout) says. Where the table is there, it waits for nobody.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the URL, an option, the login, a missing privilege, a table of another version. `Unreachable`: no answer.
    /// `Conflict`: another session has been making a table for too long; the error says how to end it.
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        Self::builder().migrate(url).await
    }

    /// The options, before one of them connects.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Deletes at most `limit` records that are past their time for ten seconds or longer, and says how many there were. Never
    /// one in flight within its lease, unknown or parked. Any number of replicas may do so at once.
    ///
    /// The store does so by itself: see [`sweep_every`](PostgresStoreBuilder::sweep_every).
    ///
    /// # Errors
    ///
    /// As any step.
    pub async fn expire(&self, limit: u32) -> Result<u64, StoreError> {
        expiry::expire(&self.inner, limit).await
    }

    async fn take(&self, statement: Statement) -> Result<Reply, StoreError> {
        self.inner.link.ask(&statement).await.map_err(|fault| fault.into_error(statement.doing))
    }

    /// Claims keys of which no two are alike, in the order of the keys.
    async fn try_claims(&self, claims: &[&Claim]) -> Result<Vec<Option<Claimed>>, Fault> {
        let reply = self.inner.link.ask(&self.inner.texts.claim(claims)).await?;
        let mut found = vec![None; claims.len()];
        for row in reply.rows {
            let at = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            if let (Some(claim), Some(found)) = (claims.get(at), found.get_mut(at)) {
                *found = self.told(row, claim).await?;
            }
        }
        Ok(found)
    }

    /// Claims a key that has no record, or says what its record says; `None`: it can be won.
    async fn try_first(&self, claim: &Claim) -> Result<Option<Claimed>, Fault> {
        match self.inner.link.ask(&self.inner.texts.first(claim)).await?.rows.into_iter().next() {
            Some(row) => self.told(row, claim).await,
            None => Ok(None),
        }
    }

    /// What a claim was told, whose record may have to be made younger.
    async fn told(&self, row: Row, claim: &Claim) -> Result<Option<Claimed>, Fault> {
        let stale = row.is_stale(claim);
        let claimed = row.claimed(claim);
        if !stale {
            return Ok(claimed);
        }
        let reply = self.inner.link.ask(&self.inner.texts.refresh(claim)).await.map_err(Fault::after_claiming)?;
        Ok(reply.rows.into_iter().next().and_then(|row| row.claimed(claim)).or(claimed))
    }

    async fn claim_one(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        for asked in 0..TRIES {
            let found = match asked {
                0 => self.try_first(claim).await,
                _ => self.try_claims(&[claim]).await.map(|found| found.into_iter().next().flatten()),
            };
            match found {
                Ok(Some(claimed)) => return Ok(claimed),
                Ok(None) => {}
                Err(fault) if fault.is_locked() => return Ok(Claimed::Busy { retry_after: BUSY }),
                Err(fault) => return Err(fault.into_error("claim")),
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "claim: the record changes faster than it can be read"))
    }
}

/// Shows the server by its address, never a URL.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { link, place, table, .. } = &*self.inner;
        let mut shown = f.debug_struct("PostgresStore");
        shown.field("server", place).field("table", table).field("budget", &link.budget);
        shown.field("pool", if link.is_given() { &"given" } else { &"own" }).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.claim_one(&claim).await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let mut found: Vec<Option<Result<Claimed, StoreError>>> = Vec::new();
        found.resize_with(claims.len(), || None);
        // A statement can write a row only once, and locks rows in the order of their keys.
        let mut keys = HashSet::new();
        let mut batch: Vec<(usize, &Claim)> =
            claims.iter().enumerate().filter(|(_, claim)| keys.insert(claim.key)).collect();
        batch.sort_by_key(|(_, claim)| claim.key);
        let (places, batch): (Vec<usize>, Vec<&Claim>) = batch.into_iter().unzip();
        if batch.is_empty() {
            return Vec::new();
        }
        match self.try_claims(&batch).await {
            Ok(claimed) => {
                for (place, claimed) in places.into_iter().zip(claimed) {
                    if let Some(found) = found.get_mut(place) {
                        *found = claimed.map(Ok);
                    }
                }
            }
            // One of them is somebody's open transaction's. The others need not wait for that.
            Err(fault) if fault.is_locked() => {}
            Err(fault) => {
                for place in places {
                    if let Some(found) = found.get_mut(place) {
                        *found = Some(Err(fault.clone().into_error("claim")));
                    }
                }
            }
        }
        let mut all = Vec::with_capacity(claims.len());
        for (claim, found) in claims.iter().zip(found) {
            all.push(match found {
                Some(found) => found,
                None => self.claim_one(claim).await,
            });
        }
        all
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.take(self.inner.texts.renew(&renew)).await.map(|reply| ownership(&reply))
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.take(self.inner.texts.complete(complete)).await.map(|reply| ownership(&reply))
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.take(self.inner.texts.release(&release)).await.map(|reply| ownership(&reply))
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        let reply = self.take(self.inner.texts.resolve(resolve)).await?;
        Ok(if reply.affected > 0 { Resolved::Applied } else { Resolved::NotUnknown })
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        let reply = self.take(self.inner.texts.parked(&parked)).await?;
        Ok(reply.rows.into_iter().filter_map(Row::parked).collect())
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        let reply = match self.inner.link.ask(&self.inner.texts.forget(&key)).await {
            Ok(reply) => reply,
            // By a transaction that is still open.
            Err(fault) if fault.is_locked() => return Ok(Forgotten::InFlight),
            Err(fault) => return Err(fault.into_error("forget")),
        };
        Ok(match reply.rows.first().map(|row| row.place) {
            Some(1) => Forgotten::Done,
            Some(3) => Forgotten::InFlight,
            Some(4) => Forgotten::Unknown,
            _ => Forgotten::Absent,
        })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.take(self.inner.texts.ping()).await.map(drop)
    }
}

#[cfg(feature = "redis")]
#[async_trait]
impl super::tiered::Authority for PostgresStore {
    async fn kept(&self, keys: &[StorageKey]) -> Result<Vec<super::tiered::Kept>, StoreError> {
        let reply = self.take(self.inner.texts.kept(keys)).await?;
        Ok(reply.rows.into_iter().filter_map(Row::kept).collect())
    }
}

fn ownership(reply: &Reply) -> Ownership {
    if reply.affected > 0 { Ownership::Held } else { Ownership::Lost }
}
