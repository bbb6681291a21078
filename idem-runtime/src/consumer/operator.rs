//! What an operator asks for about one event.

use super::Consumer;
use crate::{
    fingerprint::Fingerprint,
    key::{EventName, StorageKey},
    store::{Forgotten, StoreError},
};

impl Consumer {
    /// Under which key the store has the record of the event that its producer calls `id`: its first eight hex digits (`{}`) stand in
    /// the logs, and all 64 (`{:x}`) name the record. `None` for an empty id, which is none.
    pub fn storage_key(&self, id: &str) -> Option<StorageKey> {
        (!id.is_empty()).then(|| self.key(EventName::Id(id)))
    }

    /// Removes the record of an event that took effect: it **takes effect again** if it is delivered again. For an effect that must be
    /// repeated, a record that cannot be read, and whoever wants to be forgotten.
    ///
    /// ```
    /// use idem_runtime::{consumer::Consumer, store::{Forgotten, StoreError}};
    ///
    /// async fn repeat(consumer: &Consumer, id: &str) -> Result<bool, StoreError> {
    ///     // Then publish it again.
    ///     Ok(matches!(consumer.forget(id).await?, Forgotten::Done | Forgotten::Absent))
    /// }
    /// ```
    ///
    /// What is in flight is left alone, in this process even past its lease, and so is what is unknown or parked. What is parked,
    /// [`redrive`](Self::redrive) and [`settle`](Self::settle) are for; what is unknown is parked once it is delivered again. An event that
    /// ran beside this one, because its id had been used with another payload, has a record of its own, which stays.
    ///
    /// # Errors
    /// As [`Idempotency::forget`](crate::Idempotency::forget).
    pub async fn forget(&self, id: &str) -> Result<Forgotten, StoreError> {
        // Nothing runs without an id under one, so nothing is kept.
        let Some(key) = self.storage_key(id) else { return Ok(Forgotten::Absent) };
        self.runtime.engine().forget(&self.operation(key, Fingerprint::of_bytes(b""))).await
    }
}
