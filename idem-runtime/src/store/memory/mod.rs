//! The store inside the process.

mod records;
mod shard;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;

use self::shard::{Full, KeyHash, RECORD_BYTES, Shard};
use super::{
    Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
    Store, StoreError, StoreErrorKind, Verdict,
};
use crate::{
    apart::Apart,
    clock::{Clock, SystemClock},
    key::StorageKey,
};

/// Keeps records in this process.
///
/// For tests, for development and for a service of one process that may forget. Every record is gone when the
/// process ends, and another process never sees it: behind a load balancer, or where money moves, take a store
/// that lasts. The first store built in a process says so in the log.
///
/// It holds at most [`max_entries`](MemoryStoreBuilder::max_entries) records of together at most
/// [`max_bytes`](MemoryStoreBuilder::max_bytes). When there is no room it refuses with
/// [`StoreErrorKind::Full`]; it never drops a record before its time, because a dropped record is an operation
/// that runs twice. A completion as a [`Tombstone`](super::Outcome::Tombstone) always fits: its room was taken by
/// the claim.
///
/// A clone is the same store.
///
/// ```
/// use idem_runtime::MemoryStore;
///
/// let store = MemoryStore::builder().max_entries(10_000).max_bytes(16 << 20).build();
/// assert!(store.is_empty());
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Shards>);

/// How large a [`MemoryStore`] may grow, and which clock it judges time by.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryStoreBuilder {
    max_entries: usize,
    max_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// A store of at most a million records and 512 MiB, on the clock of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// As [`new`](Self::new), on another clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self::builder().clock(clock).build()
    }

    /// Chooses bounds and clock.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_entries: 1_000_000, max_bytes: 512 << 20, clock: Arc::new(SystemClock::new()) }
    }

    /// How many records there are, those included that are past their time and not yet dropped.
    pub fn len(&self) -> usize {
        self.0.room.entries.load(Ordering::Relaxed)
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the records take: their answers, and a fixed sum for each.
    pub fn bytes(&self) -> usize {
        self.0.room.bytes.load(Ordering::Relaxed)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStoreBuilder {
    /// At most this many records. Default: 1,000,000.
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// At most this many bytes: the answers, and a few hundred for each record. Default: 512 MiB.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Judges time by this clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The store, empty.
    pub fn build(self) -> MemoryStore {
        warn_that_it_forgets();
        let Self { max_entries, max_bytes, clock } = self;
        let hash = KeyHash::random();
        MemoryStore(Arc::new(Shards {
            shards: (0..SHARDS).map(|_| Apart(Mutex::new(Shard::new(hash)))).collect(),
            hash,
            room: Room { max_entries, max_bytes, entries: AtomicUsize::new(0), bytes: AtomicUsize::new(0) },
            clock,
        }))
    }
}

/// Bounds and how much of them is used; never a key or an answer.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.len())
            .field("max_entries", &self.0.room.max_entries)
            .field("bytes", &self.bytes())
            .field("max_bytes", &self.0.room.max_bytes)
            .finish()
    }
}

/// Nothing here waits: each method is one short critical section of one shard.
#[async_trait]
impl Store for MemoryStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.0.step(claim.key, RECORD_BYTES, |shard, now, room| shard.claim(&claim, now, room))
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        let claim =
            |claim: &Claim| self.0.step(claim.key, RECORD_BYTES, |shard, now, room| shard.claim(claim, now, room));
        claims.iter().map(claim).collect()
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.0.step(renew.key, 0, |shard, now, room| Ok(shard.renew(&renew, now, room)))
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.0.step(complete.key, answer_bytes(complete), |shard, now, room| shard.complete(complete, now, room))
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.0.step(release.key, 0, |shard, now, room| Ok(shard.release(&release, now, room)))
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.0.step(resolve.key, verdict_bytes(resolve), |shard, now, room| shard.resolve(resolve, now, room))
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        let mut records: Vec<_> = (0..SHARDS)
            .flat_map(|at| self.0.lock(at).parked().collect::<Vec<_>>())
            .filter(|record| parked.after.is_none_or(|after| record.key > after))
            .collect();
        records.sort_unstable_by_key(|record| record.key);
        records.truncate(parked.limit);
        Ok(records)
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.0.step(key, 0, |shard, now, room| Ok(shard.forget(&key, now, room)))
    }
}

struct Shards {
    shards: Box<[Apart<Mutex<Shard>>]>,
    hash: KeyHash,
    room: Room,
    clock: Arc<dyn Clock>,
}

/// How much there may be, and how much there is, over all shards. Every step writes it and looks at what lies beside it, so that is
/// not on one cache line with it.
#[repr(align(128))]
pub(super) struct Room {
    max_entries: usize,
    max_bytes: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// Many more than cores, so that two requests rarely meet in one. A power of two.
const SHARDS: usize = 64;

/// How many records past their time one step drops when it found the store full, beside those whose room it needs. Each of them was put
/// there by an earlier step, so the work is paid for; the bound keeps one step from paying for all.
const DROPS_WHEN_FULL: usize = 1024;

impl Shards {
    /// Takes one step in the shard of `key`. One that finds no room drops what is past its time anywhere, and tries once
    /// more.
    fn step<T>(
        &self,
        key: StorageKey,
        bytes: usize,
        step: impl Fn(&mut Shard, u64, &Room) -> Result<T, Full>,
    ) -> Result<T, StoreError> {
        let at = self.hash.shard(&key, SHARDS);
        if let Ok(done) = self.locked(at, &step) {
            return Ok(done);
        }
        self.make_room(at, bytes);
        self.locked(at, &step).map_err(|Full| {
            let Room { max_entries, max_bytes, .. } = self.room;
            StoreError::new(
                StoreErrorKind::Full,
                format!(
                    "`MemoryStore` holds at most {max_entries} records and {max_bytes} bytes: raise `max_entries` or \
                     `max_bytes`"
                ),
            )
        })
    }

    /// The time is read under the lock: steps of one key see it grow.
    fn locked<T>(&self, at: usize, step: impl Fn(&mut Shard, u64, &Room) -> Result<T, Full>) -> Result<T, Full> {
        let mut shard = self.lock(at);
        step(&mut shard, self.clock.now(), &self.room)
    }

    fn make_room(&self, from: usize, bytes: usize) {
        let mut drops = DROPS_WHEN_FULL + bytes / RECORD_BYTES;
        for at in 0..SHARDS {
            if drops == 0 {
                return;
            }
            let mut shard = self.lock((from + at) % SHARDS);
            let now = self.clock.now();
            while drops > 0 && shard.drop_one_past_its_time(now, &self.room) {
                drops -= 1;
                if self.room.has(bytes) {
                    return;
                }
            }
        }
    }

    /// A step leaves its shard whole even where it panics, so a poisoned lock is as good as any.
    fn lock(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.shards[at].0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Room for one more record; `false`: there is none.
    pub(super) fn take_record(&self) -> bool {
        take(&self.entries, 1, self.max_entries)
            && (self.take_bytes(RECORD_BYTES) || {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                false
            })
    }

    /// Room for this much more of a record that is there; `false`: there is none.
    pub(super) fn take_bytes(&self, bytes: usize) -> bool {
        bytes == 0 || take(&self.bytes, bytes, self.max_bytes)
    }

    pub(super) fn give_record(&self) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.give_bytes(RECORD_BYTES);
    }

    pub(super) fn give_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn has(&self, bytes: usize) -> bool {
        self.entries.load(Ordering::Relaxed) < self.max_entries
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.max_bytes
    }
}

/// Never takes more than there is, not even for a moment: one that is refused must not get another refused.
fn take(used: &AtomicUsize, more: usize, max: usize) -> bool {
    let fits = |used: usize| used.checked_add(more).filter(|used| *used <= max);
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

fn answer_bytes(complete: &Complete) -> usize {
    match &complete.outcome {
        Outcome::Answer(answer) | Outcome::Parked(answer) => answer.len(),
        Outcome::Tombstone | Outcome::Unknown => 0,
    }
}

fn verdict_bytes(resolve: &Resolve) -> usize {
    match &resolve.verdict {
        Verdict::Completed { answer: Some(answer), .. } | Verdict::Parked(answer) => answer.len(),
        Verdict::Completed { answer: None, .. } | Verdict::NotExecuted => 0,
    }
}

fn warn_that_it_forgets() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "idempotency records are kept in the memory of this process: a restart forgets them, and other processes do not \
             see them"
        );
    });
}
