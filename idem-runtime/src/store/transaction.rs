//! Stores whose record can be part of the handler's own database transaction.

use std::ops::DerefMut;

use async_trait::async_trait;

use super::{Claim, Claimed, Complete, Fence, Ownership, Store, StoreError};

/// A store in a database whose transactions a handler can join: claim, the handler's own statements and the stored answer
/// then commit together, or none of them does.
///
/// A claim that is part of an open transaction is seen by nobody else until it commits. Whoever claims the same key
/// meanwhile waits for it, at most for the store's lock time-out, and is then told [`Claimed::Busy`].
#[async_trait]
pub trait Transactions: Store + Clone {
    /// What statements run on.
    type Connection: Send;

    /// An open transaction. Dropped, it is rolled back.
    type Transaction: DerefMut<Target = Self::Connection> + Send + 'static;

    /// Begins a transaction.
    ///
    /// # Errors
    /// When there is no connection to begin it on; nothing was done. Of kind
    /// [`Unreachable`](super::StoreErrorKind::Unreachable) when there may be one if it is tried again.
    async fn begin(&self) -> Result<Self::Transaction, StoreError>;

    /// [`begin`](Self::begin), and [`Store::claim`] as its first step.
    ///
    /// # Errors
    /// As these two; no transaction is left open. Of kind [`Conflict`](super::StoreErrorKind::Conflict) when it is to be tried
    /// again.
    async fn begin_and_claim(&self, claim: Claim) -> Result<Begun<Self::Transaction>, StoreError>;

    /// [`Store::claim`] as part of the transaction that is open on this connection, ours or the caller's own.
    ///
    /// # Errors
    /// Of kind [`Conflict`](super::StoreErrorKind::Conflict) when the transaction must be rolled back and run again.
    /// After any error the transaction can only be rolled back.
    async fn claim_in(&self, connection: &mut Self::Connection, claim: Claim) -> Result<Claimed, StoreError>;

    /// [`Store::complete`] as part of the transaction that is open on this connection.
    ///
    /// # Errors
    /// As [`claim_in`](Self::claim_in).
    async fn complete_in(
        &self,
        connection: &mut Self::Connection,
        complete: &Complete,
    ) -> Result<Ownership, StoreError>;

    /// Commits.
    ///
    /// # Errors
    /// Of kind [`Conflict`](super::StoreErrorKind::Conflict): it was rolled back and may run again. Of kind
    /// [`Unavailable`](super::StoreErrorKind::Unavailable): it was committed or rolled back, and claiming again with the same token
    /// tells which.
    async fn commit(&self, transaction: Self::Transaction) -> Result<(), StoreError>;

    /// [`Store::complete`] as the last step of a transaction, and [`commit`](Self::commit). If the record is
    /// [`Lost`](Ownership::Lost), it was rolled back.
    ///
    /// # Errors
    /// As [`commit`](Self::commit). Where the record could not be completed the transaction was rolled back, and the kind is never
    /// [`Unavailable`](super::StoreErrorKind::Unavailable): that would leave open whether it was committed.
    async fn complete_and_commit(
        &self,
        transaction: Self::Transaction,
        complete: &Complete,
    ) -> Result<Ownership, StoreError>;

    /// Rolls back. When this returns, the connection is free of the transaction or gone.
    async fn rollback(&self, transaction: Self::Transaction);

    /// The store of the steps that are taken beside a transaction: to ask what became of a commit whose reply was lost, or to count
    /// an attempt that was rolled back.
    ///
    /// That is this store, unless it keeps copies of answers anywhere else: then the one that holds the transactions. A copy could
    /// outlive a commit that the database loses, and with it the effect.
    fn authority(&self) -> &dyn Store {
        self
    }
}

/// What beginning a transaction with a claim came to.
#[derive(Debug)]
pub enum Begun<T> {
    /// The caller is the one that runs, in this transaction.
    Won {
        /// Open, and the claim is part of it.
        transaction: T,
        /// As in [`Claimed::Won`].
        fence: Fence,
        /// As in [`Claimed::Won`].
        attempt: u32,
    },
    /// The caller does not run. The transaction is over; there may have been none.
    NotWon(Claimed),
}
