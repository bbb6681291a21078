//! The open transaction on its way from the engine to a handler and back.

use std::{
    fmt,
    ops::DerefMut,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::store::Transactions;

/// The transaction in which an operation was claimed, for the handler's own statements. A handler under `transaction` takes
/// it as an argument.
///
/// With sqlx it is an executor: `sqlx::query("..").execute(&mut tx)`. It has no `commit`: when the handler has returned,
/// its answer is recorded in the same transaction, which is then committed, or rolled back if the answer is an error.
///
/// A `Tx` that still lives when the handler has returned, in a task for one, was not given back: the transaction is not
/// committed, and the request is answered with 500 `transaction-leaked`.
pub struct Tx<D: Transactions> {
    place: Place<D>,
    /// Taken from the place when it is first used.
    open: Option<D::Transaction>,
}

/// Where the engine puts the transaction and the `Tx` leaves it. Clones are one.
pub(crate) struct Place<D: Transactions>(Arc<Shared<D>>);

struct Shared<D: Transactions> {
    state: Mutex<State<D::Transaction>>,
    conflict: Conflict,
}

struct State<T> {
    transaction: Option<T>,
    /// A `Tx` of this place lives.
    handed_out: bool,
    /// Nothing that comes back is wanted any more.
    closed: bool,
}

/// Whether a statement met another transaction.
#[derive(Debug, Default)]
pub(crate) struct Conflict(AtomicBool);

/// What was not given back in time.
#[derive(Debug)]
pub(crate) struct Leaked;

impl<D: Transactions> Tx<D> {
    /// The connection itself, for code that takes one.
    ///
    /// The `Tx` as an executor sees it when a statement fails because the transaction met another one, and the handler is run
    /// again. Through the bare connection that is seen only when the transaction commits: pass such an error on by
    /// answering with an error, which rolls back.
    pub fn connection(&mut self) -> &mut D::Connection {
        self.noting().0
    }

    /// The connection, and what to tell when a statement on it met another transaction.
    #[expect(clippy::expect_used, reason = "the transaction is there before the handler is called")]
    pub(crate) fn noting(&mut self) -> (&mut D::Connection, &Conflict) {
        let Self { place: Place(shared), open } = self;
        if open.is_none() {
            *open = lock(&shared.state).transaction.take();
        }
        let open = open.as_mut().expect("`Tx` is used inside the guarded handler, while its transaction is open");
        (open.deref_mut(), &shared.conflict)
    }
}

impl<D: Transactions> Drop for Tx<D> {
    fn drop(&mut self) {
        let mut state = lock(&self.place.0.state);
        state.handed_out = false;
        let late = match self.open.take() {
            Some(transaction) if !state.closed => {
                state.transaction = Some(transaction);
                None
            }
            late => late,
        };
        drop(state);
        // Rolled back, outside the lock.
        drop(late);
    }
}

impl<D: Transactions> fmt::Debug for Tx<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx(..)")
    }
}

impl<D: Transactions> Place<D> {
    /// The one `Tx` of this place; `None`: it was handed out and still lives.
    pub(crate) fn hand_out(&self) -> Option<Tx<D>> {
        let mut state = lock(&self.0.state);
        let free = !std::mem::replace(&mut state.handed_out, true);
        drop(state);
        free.then(|| Tx { place: self.clone(), open: None })
    }

    pub(crate) fn open(&self, transaction: D::Transaction) {
        let mut state = lock(&self.0.state);
        let before = state.transaction.replace(transaction);
        state.closed = false;
        drop(state);
        drop(before);
    }

    /// The transaction, if its `Tx` is gone. What is leaked now is rolled back when the `Tx` goes.
    pub(crate) fn close(&self) -> Result<D::Transaction, Leaked> {
        let mut state = lock(&self.0.state);
        state.closed = true;
        let transaction = state.transaction.take();
        let leaked = state.handed_out;
        drop(state);
        transaction.filter(|_| !leaked).ok_or(Leaked)
    }

    /// Whether a statement met another transaction since this was last asked.
    pub(crate) fn met_conflict(&self) -> bool {
        self.0.conflict.0.swap(false, Ordering::Relaxed)
    }
}

impl<D: Transactions> Default for Place<D> {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State { transaction: None, handed_out: false, closed: false }),
            conflict: Conflict::default(),
        }))
    }
}

impl<D: Transactions> Clone for Place<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Conflict {
    /// The transaction is undone and can be run again.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
