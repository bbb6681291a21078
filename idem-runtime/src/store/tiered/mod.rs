//! Records in a database, and copies of their answers in Redis: replays without a statement.
//!
//! ```no_run
//! # async fn example() -> Result<(), idem_runtime::store::StoreError> {
//! use idem_runtime::{PostgresStore, TieredStore, store::redis::RedisCache};
//!
//! let authority = PostgresStore::connect("postgres://app:secret@10.0.0.1/shop").await?;
//! let store = TieredStore::new(authority, RedisCache::server("redis://10.0.0.2")?);
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! Outside of transactions a replay whose copy is there is one command to Redis, and nothing to the authority. Every other claim is
//! that command and then what the authority takes; all other steps, and all of a transaction, are the authority's alone.
//!
//! After a completion, a settlement with an answer, and a duplicate that was found in the authority, each outside of transactions, the
//! answer is copied: Postgres is asked for up to 32 of them in one statement, SQLite for each, and there are two commands for each.
//! Nobody waits for that. At most 1024 keys wait for it; what comes on top is copied when its next duplicate comes.
//!
//! # What it holds to
//!
//! - The authority decides every claim. A copy says only what the authority will say for as long as it lives: that this
//!   operation ran, with this request, and what it answered. While an answer is kept, nothing else can become of its record:
//!   what is completed is never released, resolved or taken over. So a copy never has to be called back, unless an operator has the
//!   record forgotten: the authority forgets it, then a mark is put in the place of the copy, over which none is written for an hour. Where
//!   Redis does not take the mark, the caller is told so ([`Unavailable`](super::StoreErrorKind::Unavailable)), and asks again.
//! - A copy is made of what the authority has, never of what somebody meant to complete.
//! - In a transaction, and beside it for what it came to, no copy is asked for or made: the effect lives and dies with the
//!   authority's record. Where the authority loses a commit, in a failover or a power cut, both are lost, and a retry runs and puts it right; a copy would say that it had.
//! - A copy is believed if its layout, its key, its checksum and its fingerprint are right. Anything else that lies there, and
//!   another fingerprint too, is for the authority to judge. That is so of accidents: the checksum has no key, and whoever may write
//!   to this Redis can forge a copy. Trust it as you would the Redis of a [`RedisStore`](super::RedisStore).
//! - A copy ends before the answer's `ttl`: by a second and a thousandth of the time. It has an end by the Redis server's
//!   clock, which is read for that before the authority is asked what is left: neither a slow network nor a server or a replica
//!   that stood still makes it longer. After `ttl` it is the authority that says what is remembered. What is kept for less than
//!   about a second is not copied.
//! - Whatever Redis does is at most a copy that is not there. It costs a request at most the cache's
//!   [time-out](super::redis::RedisCacheBuilder::timeout), and after three of those in a row nothing for a second. One that does
//!   not answer, refuses copies or refuses to be read is told of in a warning, once.
//! - Redis may evict, keep nothing on disk, and be emptied at any time. What lies in the place of a copy and is none is taken away, unless
//!   it is a record of a [`RedisStore`](super::RedisStore), which somebody may still need.
//!
//! # What it cannot hold to
//!
//! Outside of transactions a copy may outlive a record that the authority lost with its last commits. It is replayed then and does
//! not run again, and rightly: its effect is elsewhere, and happened. At the copy's end it is forgotten, as it is without copies.
//!
//! Who deletes a row behind the authority's back, or puts back an older database, does not delete its copy: until its end
//! that key is replayed and does not run. Empty the cache too.
//!
//! A Redis whose clock is set back while it holds a copy keeps it longer by as much. So does one beside an authority whose
//! clock leaps ahead: that of a SQLite file can, where the system does not tell when it started (Linux does).
//!
//! A Redis that fails over to a replica which has not seen the mark of a forgotten record, or is put back to an older state, has its
//! copy again, until that ends.
//!
//! # What the user of an access list needs
//!
//! `+get +set +del +eval +time`, in a Cluster `+cluster|nodes +asking`, with a database other than 0 `+select`, behind Sentinels `+role`; and
//! `~idem-copy:*`, or the chosen prefix.

mod copy;
mod fill;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;

use self::fill::Fills;
use super::{
    Begun, Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release, Renew, Resolve,
    Resolved, Store, StoreError, StoreErrorKind, Transactions, Verdict, redis::RedisCache,
};
use crate::{fingerprint::Fingerprint, key::StorageKey, record::Answer};

/// A store that decides, and a Redis that replays. Cheap to clone: clones share both.
///
/// See the [module](self) for what it costs and what it holds to.
pub struct TieredStore<A>(Arc<Inner<A>>);

/// A store that can stand behind a [`TieredStore`]: it tells for how long it still keeps an answer.
///
/// [`PostgresStore`](super::PostgresStore) is one, [`SqliteStore`](super::SqliteStore) another.
#[async_trait]
pub trait Authority: Store {
    /// Those of these records that are completed with an answer that is still kept, in any order.
    ///
    /// # Errors
    /// As any step; then nothing is copied.
    async fn kept(&self, keys: &[StorageKey]) -> Result<Vec<Kept>, StoreError>;
}

/// An answer that an [`Authority`] keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Which record.
    pub key: StorageKey,
    /// What the key was used with.
    pub fingerprint: Fingerprint,
    /// What every retry gets.
    pub answer: Answer,
    /// For how long yet, by the authority's clock: until the end of its [`ttl`](Complete::ttl).
    pub left: Duration,
}

struct Inner<A> {
    authority: A,
    cache: RedisCache,
    fills: Fills,
}

impl Kept {
    /// An answer as an authority tells of it.
    pub const fn new(key: StorageKey, fingerprint: Fingerprint, answer: Answer, left: Duration) -> Self {
        Self { key, fingerprint, answer, left }
    }
}

impl<A: Authority> TieredStore<A> {
    /// A store of these two.
    #[must_use]
    pub fn new(authority: A, cache: RedisCache) -> Self {
        Self(Arc::new(Inner { authority, cache, fills: Fills::default() }))
    }

    /// The store that decides.
    #[must_use]
    pub fn authority(&self) -> &A {
        &self.0.authority
    }

    /// Returns when no copy is on its way to Redis any more, for a test or the end of a service. What is not there then is
    /// copied when its next duplicate comes.
    pub async fn flush(&self) {
        self.0.fills.idle().await;
    }

    /// What the copy says, where it says the same as the authority would.
    async fn copied(&self, claim: &Claim) -> Option<Claimed> {
        let value = self.0.cache.get(&claim.key).await?;
        let copy = copy::open(&claim.key, &value)?;
        // Another fingerprint is a mismatch if the record is still there: the authority knows.
        (copy.fingerprint == claim.fingerprint).then_some(Claimed::Completed { answer: Some(copy.answer) })
    }

    fn found(&self, key: StorageKey, claimed: Option<&Claimed>) {
        if let Some(Claimed::Completed { answer: Some(_) }) = claimed {
            self.0.fill(key);
        }
    }
}

impl<A> Clone for TieredStore<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: fmt::Debug> fmt::Debug for TieredStore<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { authority, cache, .. } = &*self.0;
        f.debug_struct("TieredStore").field("authority", authority).field("cache", cache).finish()
    }
}

#[async_trait]
impl<A: Authority> Store for TieredStore<A> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        if let Some(copied) = self.copied(&claim).await {
            return Ok(copied);
        }
        let claimed = self.0.authority.claim(claim).await;
        self.found(claim.key, claimed.as_ref().ok());
        claimed
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        // The shared connection asks for all copies in one burst.
        let copied = join_all(claims.iter().map(|claim| self.copied(claim))).await;
        let rest: Vec<_> =
            claims.iter().zip(&copied).filter(|(_, copied)| copied.is_none()).map(|(claim, _)| *claim).collect();
        let mut asked = match rest.is_empty() {
            true => Vec::new(),
            false => self.0.authority.claim_many(&rest).await,
        };
        for (claim, claimed) in rest.iter().zip(&asked) {
            self.found(claim.key, claimed.as_ref().ok());
        }
        let mut asked = asked.drain(..);
        let missing = || Err(StoreError::new(StoreErrorKind::Unavailable, "claim: the authority left out an answer"));
        copied.into_iter().map(|copied| copied.map(Ok).or_else(|| asked.next()).unwrap_or_else(missing)).collect()
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.0.authority.renew(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        let (key, is_answer) = (complete.key, matches!(complete.outcome, Outcome::Answer(_)));
        let ownership = self.0.authority.complete(complete).await?;
        if is_answer && ownership == Ownership::Held {
            self.0.fill(key);
        }
        Ok(ownership)
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.0.authority.release(release).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        let (key, is_answer) = (resolve.key, matches!(resolve.verdict, Verdict::Completed { answer: Some(_), .. }));
        let resolved = self.0.authority.resolve(resolve).await?;
        if is_answer && resolved == Resolved::Applied {
            self.0.fill(key);
        }
        Ok(resolved)
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.0.authority.parked(parked).await
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        let forgotten = self.0.authority.forget(key).await?;
        // Absent too: the record may be forgotten, and its copy not be.
        if matches!(forgotten, Forgotten::Done | Forgotten::Absent) {
            self.0.forget_copy(&key).await?;
        }
        Ok(forgotten)
    }

    /// The authority's: without Redis only replays are slower.
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.authority.ping().await
    }
}

/// Transactions are the authority's alone: a copy may outlive a commit that the authority lost, and the effect was lost with it.
#[async_trait]
impl<A: Authority + Transactions> Transactions for TieredStore<A> {
    type Connection = A::Connection;
    type Transaction = A::Transaction;

    async fn begin(&self) -> Result<A::Transaction, StoreError> {
        self.0.authority.begin().await
    }

    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<A::Transaction>, StoreError> {
        self.0.authority.begin_and_claim(claim).await
    }

    async fn claim_in(&self, connection: &mut A::Connection, claim: Claim) -> Result<Claimed, StoreError> {
        self.0.authority.claim_in(connection, claim).await
    }

    async fn complete_in(&self, connection: &mut A::Connection, complete: &Complete) -> Result<Ownership, StoreError> {
        self.0.authority.complete_in(connection, complete).await
    }

    async fn commit(&self, transaction: A::Transaction) -> Result<(), StoreError> {
        self.0.authority.commit(transaction).await
    }

    async fn complete_and_commit(
        &self,
        transaction: A::Transaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        self.0.authority.complete_and_commit(transaction, complete).await
    }

    async fn rollback(&self, transaction: A::Transaction) {
        self.0.authority.rollback(transaction).await;
    }

    fn authority(&self) -> &dyn Store {
        Transactions::authority(&self.0.authority)
    }
}
