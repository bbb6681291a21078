//! Operations in a database transaction, without HTTP.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use super::{ExecuteError, Executed, Idempotency, Operation, recording};
use crate::{
    engine::{Attempt, Ended, Place, Refusal, Settled, Tx, Won, Work},
    store::Transactions,
};

/// A closure that is called once for each run.
struct Calls<D: Transactions, F> {
    place: Place<D>,
    effect: F,
    max_answer_bytes: usize,
}

impl Idempotency {
    /// Runs `effect` in a transaction of `store` unless the operation ran before; then gives back what it returned the first
    /// time. The claim, what `effect` writes through the [`Tx`] and its value are committed together, or none of them is.
    ///
    /// `effect` runs to its end even if this future is dropped, and is run again when its transaction met another one, at most
    /// five times. An `Err` rolls back. It must be done with the `Tx` when it returns. A value is kept as JSON, as in
    /// [`execute`](Self::execute).
    ///
    /// `store` decides, whatever store this runtime was built on; lease and `on_store_error` of the operation's policy
    /// have no use here, nor has `on_abandoned` for what runs here. What was abandoned under [`execute`](Self::execute)
    /// is as there: it runs again, is refused, or its recovery function is asked. So is what this process ran there and
    /// has not recorded yet, or still runs under a lease that may have run out.
    ///
    /// # Errors
    /// [`ExecuteError::Effect`] with the effect's own error, else [`ExecuteError::Refused`]:
    /// [`Contended`](crate::Refusal::Contended) when each run met another transaction,
    /// [`Unconfirmed`](crate::Refusal::Unconfirmed) when nobody can tell whether it was committed,
    /// [`NoFingerprint`](crate::Refusal::NoFingerprint) as in [`execute`](Self::execute).
    #[allow(
        clippy::manual_async_fn,
        reason = "rustc cannot see at every call that the future of an `async fn` is `Send`"
    )]
    pub fn transact<D, T, E, F, Fut>(
        &self,
        store: &D,
        operation: Operation,
        effect: F,
    ) -> impl Future<Output = Result<Executed<T>, ExecuteError<E>>> + Send
    where
        D: Transactions,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: Fn(Tx<D>, Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        async move {
            let operation = self.operation_to_run(&operation).map_err(ExecuteError::Refused)?;
            let place = Place::default();
            let work = Calls { place: place.clone(), effect, max_answer_bytes: self.limits().max_answer_bytes };
            let ran = self.engine().transact(store.clone(), place, Some(operation), work).await;
            self.executed(&operation, ran)
        }
    }

    /// Runs `effect` in a transaction of the caller's own unless the operation ran before; then gives back what it returned the
    /// first time. The caller commits.
    ///
    /// `connection` has an open transaction of `store`'s database. Somebody else's transaction with the same key is waited for,
    /// at most for the store's lock time-out.
    ///
    /// **After an error the transaction must be rolled back**: if it were committed, the operation would be in flight until its
    /// lease runs out. [`Refusal::Contended`] says that it may be run again from its beginning.
    ///
    /// What was abandoned under [`execute`](Self::execute) and must not be run again is
    /// [`Refusal::Unknown`], and can be [settled](Self::resolve) as soon as the caller's
    /// transaction is rolled back. No recovery function is asked.
    ///
    /// # Errors
    /// [`ExecuteError::Effect`] with the effect's own error, else [`ExecuteError::Refused`]:
    /// [`NoFingerprint`](Refusal::NoFingerprint) as in [`execute`](Self::execute).
    pub async fn execute_in<D, T, E, F>(
        &self,
        store: &D,
        connection: &mut D::Connection,
        operation: &Operation,
        effect: F,
    ) -> Result<Executed<T>, ExecuteError<E>>
    where
        D: Transactions,
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut D::Connection, Attempt) -> Result<T, E>,
    {
        let operation = self.operation_to_run(operation).map_err(ExecuteError::Refused)?;
        let joined = match self.engine().join(store, connection, &operation).await {
            Ok(joined) => joined,
            Err(known) => {
                if matches!(known, Err(Refusal::Unknown)) {
                    self.engine().find_unknown_apart(store, &operation);
                }
                return self.executed(&operation, known);
            }
        };
        let value = effect(connection, joined.won().into_attempt()).await;
        let recording = recording(&value, self.limits().max_answer_bytes);
        let ran = joined.complete(store, connection, Settled { value, recording }).await;
        self.executed(&operation, ran)
    }
}

impl<D, T, E, F, Fut> Work for Calls<D, F>
where
    D: Transactions,
    T: Serialize + Send + 'static,
    E: Send + 'static,
    F: Fn(Tx<D>, Attempt) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    type Value = Result<T, E>;

    async fn ready(&mut self) -> Result<(), Self::Value> {
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "a run whose `Tx` still lives is the last one")]
    async fn run(&mut self, won: Won) -> Ended<Self::Value> {
        let tx = self.place.hand_out().expect("the `Tx` of the last run is gone");
        let value = (self.effect)(tx, won.into_attempt()).await;
        let recording = recording(&value, self.max_answer_bytes);
        Ended { settled: Settled { value, recording }, undo: false }
    }
}
