//! What an operator asks for.

use super::{Idempotency, Operation};
use crate::{
    engine::Refusal,
    key::StorageKey,
    store::{Forgotten, StoreError},
};

impl Idempotency {
    /// Under which key the store has the record of this operation: its first eight hex digits (`{}`) stand in the logs, and all 64 (`{:x}`)
    /// name the record.
    ///
    /// ```
    /// use http::Method;
    /// use idem_runtime::{Idempotency, MemoryStore, Operation, Policy, Principal, Refusal};
    ///
    /// # fn example(idempotency: Idempotency) -> Result<(), Refusal> {
    /// const PAYMENTS: Policy = Policy::new("payments").validate();
    ///
    /// let operation = Operation::new(PAYMENTS, Principal::new("acct_1"), "key-1").endpoint(&Method::POST, "/payments");
    /// let key = idempotency.storage_key(&operation)?;
    /// println!("{key} in the logs, `idem:{{{key:x}}}` in Redis");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refusal::Unnamed`]: nothing runs under an empty key, or for a principal with an empty name.
    pub fn storage_key(&self, operation: &Operation) -> Result<StorageKey, Refusal> {
        self.operation(operation).map(|operation| operation.key)
    }

    /// Removes the record of an operation that ran, answer and all: it **runs again** if its key comes again. For an answer that
    /// should not have been kept, a record that cannot be read, and whoever wants to be forgotten.
    ///
    /// What is in flight is left alone, in this process even past its lease, and so is what is unknown or parked, which
    /// [`resolve`](Self::resolve) settles. The fingerprint does not matter.
    ///
    /// # Errors
    /// When the store gives no answer: the record is then as it was, or gone, and it may be asked again. Of kind
    /// [`Misconfigured`](crate::store::StoreErrorKind::Misconfigured) where the store has no such step, or where a `TieredStore` finds
    /// something else in the place of its copy: the record is forgotten then.
    pub async fn forget(&self, operation: &Operation) -> Result<Forgotten, StoreError> {
        // Nothing runs without a name, so nothing is kept.
        let Ok(operation) = self.operation(operation) else { return Ok(Forgotten::Absent) };
        self.engine().forget(&operation).await
    }

    /// Whether the store would answer a claim now, for a readiness probe. Takes no longer than one step of the store may.
    ///
    /// It does not say that there is room, nor, of a Redis Cluster, that every node is up: one is asked.
    ///
    /// | store | what is asked |
    /// |---|---|
    /// | memory | nothing |
    /// | SQLite | a read |
    /// | Redis | a read, when its key expires, and whether the server evicts, where that is not known |
    /// | Postgres | a statement that would write, and finds nothing to: a standby refuses it |
    /// | tiered | the authority alone |
    ///
    /// # Errors
    /// Why the store would not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.engine().store().ping().await
    }
}
