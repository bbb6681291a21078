//! A database in memory whose commits go wrong as the test says.

use std::{
    collections::VecDeque,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt;
use idem_runtime::{
    MemoryStore, Store,
    store::{
        Begun, Claim, Claimed, Complete, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
        StoreError, StoreErrorKind, Transactions,
    },
};

/// Clones are one.
#[derive(Clone)]
pub(crate) struct Fake {
    records: MemoryStore,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// What was committed.
    entries: Vec<String>,
    /// How the next steps go; none left: as they should.
    begins: VecDeque<StoreErrorKind>,
    claims: VecDeque<Asked>,
    completions: VecDeque<StoreErrorKind>,
    commits: VecDeque<Commit>,
    releases: VecDeque<StoreErrorKind>,
}

/// How a claim goes.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Well,
    Wrong(StoreErrorKind),
    /// Somebody else's transaction has the lock.
    Busy,
}

/// How a commit goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Commit {
    /// It is done, and the reply is lost.
    Unseen,
    /// It is undone, and the reply is lost.
    Undone,
    /// It met another one.
    Conflict,
    /// There is no room.
    Full,
}

/// What a transaction has done so far.
pub(crate) struct Connection {
    entries: Vec<String>,
    claim: Option<Claim>,
    complete: Option<Complete>,
}

/// Rolled back when it is dropped.
pub(crate) struct Transaction {
    connection: Connection,
    records: MemoryStore,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::on(MemoryStore::new())
    }

    /// A database with these records.
    pub(crate) fn on(records: MemoryStore) -> Self {
        Self { records, shared: Arc::default() }
    }

    pub(crate) fn commits(&self, commits: impl IntoIterator<Item = Commit>) {
        self.shared().commits.extend(commits);
    }

    pub(crate) fn begins(&self, failures: impl IntoIterator<Item = StoreErrorKind>) {
        self.shared().begins.extend(failures);
    }

    /// From now on.
    pub(crate) fn begins_well(&self) {
        self.shared().begins.clear();
    }

    pub(crate) fn claims(&self, failures: impl IntoIterator<Item = StoreErrorKind>) {
        self.shared().claims.extend(failures.into_iter().map(Asked::Wrong));
    }

    /// After so many claims, one finds somebody else's transaction in its way.
    pub(crate) fn busy_after(&self, claims: usize) {
        self.shared().claims.extend(std::iter::repeat_n(Asked::Well, claims).chain([Asked::Busy]));
    }

    pub(crate) fn completions(&self, failures: impl IntoIterator<Item = StoreErrorKind>) {
        self.shared().completions.extend(failures);
    }

    /// Outside of transactions.
    pub(crate) fn releases(&self, failures: impl IntoIterator<Item = StoreErrorKind>) {
        self.shared().releases.extend(failures);
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.shared().entries.clone()
    }

    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Writes an entry.
    pub(crate) fn write(&mut self, entry: impl Into<String>) {
        self.entries.push(entry.into());
    }
}

fn failed(kind: Option<StoreErrorKind>) -> Result<(), StoreError> {
    kind.map_or(Ok(()), |kind| Err(StoreError::new(kind, "as it is told to")))
}

#[async_trait]
impl Transactions for Fake {
    type Connection = Connection;
    type Transaction = Transaction;

    async fn begin(&self) -> Result<Transaction, StoreError> {
        let failure = self.shared().begins.pop_front();
        failed(failure)?;
        let connection = Connection { entries: Vec::new(), claim: None, complete: None };
        Ok(Transaction { connection, records: self.records.clone() })
    }

    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<Transaction>, StoreError> {
        let mut transaction = self.begin().await?;
        Ok(match self.claim_in(&mut transaction, claim).await? {
            Claimed::Won { fence, attempt } => Begun::Won { transaction, fence, attempt },
            claimed => Begun::NotWon(claimed),
        })
    }

    async fn claim_in(&self, connection: &mut Connection, claim: Claim) -> Result<Claimed, StoreError> {
        let how = self.shared().claims.pop_front();
        match how {
            None | Some(Asked::Well) => {}
            Some(Asked::Wrong(kind)) => failed(Some(kind))?,
            Some(Asked::Busy) => return Ok(Claimed::Busy { retry_after: Duration::from_millis(10) }),
        }
        let claimed = self.records.claim(claim).await?;
        if let Claimed::Won { .. } = claimed {
            connection.claim = Some(claim);
        }
        Ok(claimed)
    }

    async fn complete_in(&self, connection: &mut Connection, complete: &Complete) -> Result<Ownership, StoreError> {
        let failure = self.shared().completions.pop_front();
        failed(failure)?;
        connection.complete = Some(complete.clone());
        Ok(Ownership::Held)
    }

    async fn complete_and_commit(
        &self,
        mut transaction: Transaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError> {
        let completed = self.complete_in(&mut transaction, complete).await;
        assert_eq!(completed.map_err(StoreError::not_committed)?, Ownership::Held);
        self.commit(transaction).await.map(|()| Ownership::Held)
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<(), StoreError> {
        let how = self.shared().commits.pop_front();
        if matches!(how, None | Some(Commit::Unseen)) {
            let Connection { entries, complete, .. } = &mut *transaction;
            if let Some(complete) = complete.take() {
                assert_eq!(self.records.complete(&complete).await?, Ownership::Held);
            }
            self.shared().entries.append(entries);
            transaction.claim = None;
        }
        failed(how.map(|how| match how {
            Commit::Unseen | Commit::Undone => StoreErrorKind::Unavailable,
            Commit::Conflict => StoreErrorKind::Conflict,
            Commit::Full => StoreErrorKind::Full,
        }))
    }

    async fn rollback(&self, transaction: Transaction) {
        drop(transaction);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(claim) = self.connection.claim.take() {
            // The records in memory never wait.
            let released = self.records.release(Release::new(claim.key, claim.token)).now_or_never();
            assert!(released.is_some_and(|released| released.is_ok()));
        }
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait]
impl Store for Fake {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.records.claim(claim).await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        self.records.claim_many(claims).await
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.records.renew(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        self.records.complete(complete).await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        let failure = self.shared().releases.pop_front();
        failed(failure)?;
        self.records.release(release).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.records.resolve(resolve).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.records.parked(parked).await
    }
}
