//! Where claims and answers live.
//!
//! A store keeps at most one record for a [`StorageKey`] and changes it only in the atomic steps of [`Store`].
//! It judges time by its own clock, never by the caller's, and knows nothing of HTTP.
//!
//! # States
//!
//! | state | holds |
//! |---|---|
//! | absent | |
//! | in flight | token, fence, fingerprint, lease, attempt |
//! | completed | token, fingerprint, and the answer or a tombstone; no token once [`Store::resolve`] completed it |
//! | unknown | token, fence, fingerprint, attempt |
//! | parked | token, fence, fingerprint, attempt, and a note of why; no token once [`Store::resolve`] parked it |
//!
//! A record in flight past its lease is *abandoned*. Nothing sweeps it: the next claim sees it. If its own claim asked that it be kept
//! until it is settled, by no [retention](Claim::retention), it is as good as unknown, whoever looks at it. One whose owner released it
//! and [remembers its attempt](Release::remember) is in flight without an owner: the next claim wins the next attempt.
//!
//! # Writing a store
//!
//! Implement the methods of [`Store`], each as one atomic step on the server, then run the public suite of
//! `idem_runtime::conformance` (feature `conformance`) against it.
//!
//! [`forget`](Store::forget) and [`ping`](Store::ping) are what an operator asks for: a store works without them, and whoever wraps
//! another one passes them on.
//!
//! The token of a completed or a parked record is what tells its owner, who asks again, from a stranger. The fence of one that
//! is completed nobody asks for.
//!
//! [`Outcome`], [`Verdict`] and [`Abandoned`] may grow, so that a match on them outside this crate needs an arm `_`. There a
//! store takes no step and answers [`StoreErrorKind::Misconfigured`]: it is older than what it was asked for. Whatever else it did
//! would be a guess, and another arm's step could forget that an operation ran.

mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod executor;
mod forgotten;
mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(all(feature = "redis", any(feature = "postgres", feature = "sqlite")))]
pub mod tiered;
mod transaction;

use std::{
    cell::Cell,
    fmt,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use async_trait::async_trait;

use crate::{fingerprint::Fingerprint, key::StorageKey, record::Answer};

#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
#[cfg(all(feature = "redis", any(feature = "postgres", feature = "sqlite")))]
pub use self::tiered::TieredStore;
pub use self::transaction::{Begun, Transactions};
pub use self::{
    error::{StoreError, StoreErrorKind},
    forgotten::Forgotten,
    memory::{MemoryStore, MemoryStoreBuilder},
};

/// The atomic steps a record can take.
///
/// Every method is one atomic step: two callers see it before or after, never halfway. A method that answers
/// `Err` of kind [`Unavailable`](StoreErrorKind::Unavailable) may or may not have been applied; the engine
/// then asks again with the same token, so every method must be safe to repeat.
///
/// Every method must come to an end by itself, within a time-out of the store's own: the engine waits for it. None may panic,
/// whatever the server answers: what a store does not understand is an `Err`, or a record that cannot be read.
///
/// A record that this version cannot read is there, and nobody's: [`claim`](Self::claim) tells that it is, and no other step is
/// taken on it. [`renew`](Self::renew), [`complete`](Self::complete) and [`release`](Self::release) answer
/// [`Ownership::Lost`], [`resolve`](Self::resolve) answers [`Resolved::NotUnknown`]; a store that would rather answer `Err` may.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Tries to become the one that runs. In this order:
    ///
    /// 1. a record this version cannot read: [`Claimed::Unreadable`];
    /// 2. nothing, or only a completed record past [`Complete::remember`], or one in flight past its lease and
    ///    [`Claim::retention`]: won, in flight, attempt 1;
    /// 3. any record with another fingerprint: [`Claimed::Mismatch`];
    /// 4. in flight with the same token: won with the same fence and attempt, the lease starts again;
    /// 5. in flight, lease alive: [`Claimed::Busy`];
    /// 6. in flight, released with its attempt remembered: won with the next attempt, whatever [`Claim::abandoned`] says;
    /// 7. in flight, lease out: if [`Claim::abandoned`] says so, or the record has no retention, it becomes unknown; else won with the next
    ///    attempt;
    /// 8. completed: [`Claimed::Completed`], without the answer once it is past [`Complete::ttl`];
    /// 9. unknown: [`Claimed::Unknown`];
    /// 10. parked: [`Claimed::Parked`].
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// Many claims in one round trip: one result for each, in their order.
    ///
    /// Each is as atomic as [`claim`](Self::claim), all together are not: some may be won and others fail. Of two claims of
    /// one key the second sees what the first one did.
    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>>;

    /// Starts the lease again, if the token still owns the record in flight, even past its lease. Past [`Claim::retention`] too there is
    /// no record, and it is [`Ownership::Lost`], as a completion and a release are.
    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError>;

    /// Records how the operation ended, if the token owns the record in flight or unknown.
    ///
    /// Repeated with the same token after it was applied: [`Ownership::Held`], nothing changes. Once the record was
    /// [resolved](Self::resolve) it is [`Ownership::Lost`].
    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError>;

    /// Gives the key back, if the token owns the record in flight or unknown: makes it absent, or leaves a record
    /// without an owner that [remembers the attempt](Release::remember).
    ///
    /// A record that is absent or without an owner already answers [`Ownership::Lost`].
    async fn release(&self, release: Release) -> Result<Ownership, StoreError>;

    /// Settles an unknown or a parked record, or one that is in flight without a retention and past its lease, on the word of a recovery
    /// function or an operator. From then on its token is nobody's:
    /// a completion or a release by its late owner is [`Ownership::Lost`].
    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError>;

    /// Lists parked records in the order of their keys, at most [`Parked::limit`] of them.
    ///
    /// Every record that was parked before the call and is not resolved is in one of the pages. One that cannot be read is in none:
    /// the next one has its place, so that a page which is not full is still the last one.
    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError>;

    /// Makes the key absent, whoever owned its record, if that is completed, cannot be read, or is without an owner, its attempt
    /// remembered. No other record is touched. The next claim's fence is larger than that of the record, where that could be read.
    ///
    /// A store that has no such step answers `Err` of kind [`Misconfigured`](StoreErrorKind::Misconfigured), as this default does.
    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        let _ = key;
        Err(StoreError::new(StoreErrorKind::Misconfigured, "forget: this store cannot forget a record"))
    }

    /// Whether claims would be answered now: comes to an end within the time-out of a step, and takes none.
    ///
    /// `Ok` by default, as of a store in which nothing can be away.
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Who claims: unguessable, one per run, the same when a claim is asked again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

/// Grows with every won claim of a key, even after its record was released, expired or lost: lost, as far as the store's clock
/// can tell the moments apart. In Redis that is the millisecond: two claims within one may then have the same fence.
///
/// Give it to what the handler writes to, and let that refuse a smaller one. In microseconds since the Unix epoch
/// by the store's clock, or one more than the last, whichever is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

/// What [`Store::claim`] takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Claim {
    /// Which record.
    pub key: StorageKey,
    /// Who claims.
    pub token: Token,
    /// What the key is used with.
    pub fingerprint: Fingerprint,
    /// How long the claim holds without a renewal. At least one millisecond.
    pub lease: Duration,
    /// What becomes of an abandoned record.
    pub abandoned: Abandoned,
    /// How long after its lease an abandoned record must still be seen; `None`: until it is settled, and nobody may take it over.
    pub retention: Option<Duration>,
}

/// What a claim makes of a record in flight whose lease ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandoned {
    /// The claimer wins the next attempt. A record without [retention](Claim::retention) becomes unknown all the same: its owner's claim
    /// said so.
    TakeOver,
    /// The record becomes unknown: the effect may or may not have happened.
    MarkUnknown,
}

/// What [`Store::claim`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claimed {
    /// The claimer runs.
    Won {
        /// Larger than that of every earlier owner.
        fence: Fence,
        /// 1 for the first, one more each time an abandoned record is taken over.
        attempt: u32,
    },
    /// The key was used with another request.
    Mismatch,
    /// Somebody else runs.
    Busy {
        /// What is left of the lease.
        retry_after: Duration,
    },
    /// It ran.
    Completed {
        /// What was recorded, byte for byte; `None`: it ran, its answer is not kept.
        answer: Option<Answer>,
    },
    /// It may have run.
    Unknown {
        /// The fence of the last owner, for [`Resolve::fence`].
        fence: Fence,
        /// The attempt of the last owner.
        attempt: u32,
    },
    /// It is not run before somebody resolves it.
    Parked {
        /// Why, as [`Outcome::Parked`] said.
        note: Answer,
        /// The fence of the last owner, for [`Resolve::fence`].
        fence: Fence,
        /// The attempt of the last owner.
        attempt: u32,
    },
    /// The record is damaged or of a format this version does not know.
    Unreadable,
}

/// What [`Store::renew`] takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Renew {
    /// Which record.
    pub key: StorageKey,
    /// Who owns it.
    pub token: Token,
    /// How long the claim holds from now.
    pub lease: Duration,
    /// As in [`Claim::retention`].
    pub retention: Option<Duration>,
}

/// What [`Store::complete`] takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Complete {
    /// Which record.
    pub key: StorageKey,
    /// Who owns it.
    pub token: Token,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the answer is kept from now.
    pub ttl: Duration,
    /// How long it is remembered from now that the operation ran; at least `ttl`.
    pub remember: Duration,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It ran, and this is what every retry gets.
    Answer(Answer),
    /// It ran; its answer is not kept.
    Tombstone,
    /// Nobody can tell. Kept until resolved: `ttl` and `remember` do not apply.
    Unknown,
    /// It is not to be run again before somebody resolves it, and this says why. Kept until resolved, as `Unknown`.
    Parked(Answer),
}

/// What [`Store::release`] takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Release {
    /// Which record.
    pub key: StorageKey,
    /// Who owns it.
    pub token: Token,
    /// How long from now the attempt is remembered, so that the next claim wins the next one; `None`: the key becomes absent.
    pub remember: Option<Duration>,
}

/// Whether the record still belonged to the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost claim means somebody else may run"]
pub enum Ownership {
    /// It did; the step was taken.
    Held,
    /// It did not; nothing changed.
    Lost,
}

/// What [`Store::resolve`] takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resolve {
    /// Which record.
    pub key: StorageKey,
    /// Only if the record has this fence; `None`: whichever it has.
    pub fence: Option<Fence>,
    /// What is known now.
    pub verdict: Verdict,
}

/// What somebody found out about an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It ran: the record becomes completed.
    Completed {
        /// What every retry gets; `None`: a tombstone.
        answer: Option<Answer>,
        /// How long the answer is kept from now.
        ttl: Duration,
        /// How long it is remembered from now; at least `ttl`.
        remember: Duration,
    },
    /// It did not run, or may run again: the key becomes absent.
    NotExecuted,
    /// Nobody can tell yet: the record becomes parked with this note. On a parked record it replaces the note.
    Parked(Answer),
}

/// What [`Store::resolve`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a verdict that was not applied settles nothing"]
pub enum Resolved {
    /// The verdict stands.
    Applied,
    /// The record is none of those that a verdict settles, or has another fence; nothing changed.
    NotUnknown,
}

/// What [`Store::parked`] takes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Parked {
    /// Only records whose key is greater: the last one of the page before. `None`: from the start.
    pub after: Option<StorageKey>,
    /// How many at most. A page that is not full is the last one.
    pub limit: usize,
}

/// One record of [`Store::parked`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParkedRecord {
    /// Which record.
    pub key: StorageKey,
    /// Why it is parked.
    pub note: Answer,
    /// The fence of the last owner, for [`Resolve::fence`].
    pub fence: Fence,
    /// The attempt of the last owner.
    pub attempt: u32,
}

impl Token {
    /// A token that no other run has: eight bytes of this thread, then a count.
    pub(crate) fn fresh() -> Self {
        thread_local! {
            // `RandomState` is seeded by the operating system, for each thread.
            static THREAD: [u8; 8] = RandomState::new().hash_one(std::process::id()).to_be_bytes();
            static COUNT: Cell<u64> = const { Cell::new(0) };
        }
        let count = COUNT.replace(COUNT.get() + 1);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&THREAD.with(|thread| *thread));
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        Self(bytes)
    }

    /// A token from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as stores keep them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Never the token itself: whoever has it can settle the record.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Fence {
    /// A fence from its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The fence that follows `last` at `now` (microseconds since the Unix epoch): larger than `last`, and larger than
    /// any fence of a record that is gone, as long as the store's clock does not run back.
    #[must_use]
    pub const fn after(last: Option<Self>, now: u64) -> Self {
        match last {
            Some(Self(last)) if last >= now => Self(last + 1),
            _ => Self(now),
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Claim {
    /// A claim that an abandoned record is taken over by, and that is seen for 24 hours when it is abandoned itself.
    pub const fn new(key: StorageKey, token: Token, fingerprint: Fingerprint, lease: Duration) -> Self {
        Self {
            key,
            token,
            fingerprint,
            lease,
            abandoned: Abandoned::TakeOver,
            retention: Some(Duration::from_secs(24 * 60 * 60)),
        }
    }

    /// The same claim with another rule for abandoned records. [`Abandoned::MarkUnknown`] keeps them until settled.
    #[must_use]
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.abandoned = abandoned;
        if let Abandoned::MarkUnknown = abandoned {
            self.retention = None;
        }
        self
    }

    /// The same claim, seen this long after its lease when it is abandoned.
    #[must_use]
    pub const fn retention(mut self, retention: Option<Duration>) -> Self {
        self.retention = retention;
        self
    }
}

impl Renew {
    /// A renewal of what `claim` won.
    pub const fn of(claim: &Claim) -> Self {
        Self { key: claim.key, token: claim.token, lease: claim.lease, retention: claim.retention }
    }
}

impl Complete {
    /// A completion whose answer is kept, and remembered, for `ttl`.
    pub const fn new(key: StorageKey, token: Token, outcome: Outcome, ttl: Duration) -> Self {
        Self { key, token, outcome, ttl, remember: ttl }
    }

    /// The same completion, remembered for longer than its answer is kept.
    #[must_use]
    pub const fn remember(mut self, remember: Duration) -> Self {
        self.remember = remember;
        self
    }
}

impl Release {
    /// A release by the owner `token` that makes the key absent.
    pub const fn new(key: StorageKey, token: Token) -> Self {
        Self { key, token, remember: None }
    }

    /// The same release, with the attempt remembered this long.
    #[must_use]
    pub const fn remember(mut self, remember: Duration) -> Self {
        self.remember = Some(remember);
        self
    }
}

impl Parked {
    /// The first page of at most `limit` records.
    pub const fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// The page behind the record of `key`.
    #[must_use]
    pub const fn after(mut self, key: StorageKey) -> Self {
        self.after = Some(key);
        self
    }
}

impl ParkedRecord {
    /// A parked record as a store lists it.
    pub const fn new(key: StorageKey, note: Answer, fence: Fence, attempt: u32) -> Self {
        Self { key, note, fence, attempt }
    }
}

impl Resolve {
    /// A verdict on whichever unknown or parked record the key has.
    pub const fn new(key: StorageKey, verdict: Verdict) -> Self {
        Self { key, fence: None, verdict }
    }

    /// The same verdict, only on the record with this fence.
    #[must_use]
    pub const fn fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Token;

    #[test]
    fn no_two_threads_have_one_token() {
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| [(); 100].map(|()| Token::fresh()))).collect();
        let tokens: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(tokens.len(), 800);
    }
}
