//! Why an operation was not run and has no answer to give.

use std::{fmt, time::Duration};

use crate::store::StoreErrorKind;

/// A guarded operation has no value for this caller: it was not run, or it panicked, or it ran in a transaction that was undone or
/// not confirmed. The variant says which.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The key was used with another request.
    Mismatch,
    /// The first request with this key is running, or somebody finds out what became of it.
    #[non_exhaustive]
    InFlight {
        /// What is left of its lease; it may be done much sooner.
        retry_after: Duration,
    },
    /// The first request may or may not have taken effect.
    Unknown,
    /// It ran; its answer was too large, has expired, is of another type than is asked for now, or was not kept for another reason.
    NotKept,
    /// There is a record, damaged or of a newer version: something ran or runs.
    Unreadable,
    /// The store gave no answer, or one that helps nobody.
    #[non_exhaustive]
    Unavailable {
        /// Why: whether it is worth asking again soon.
        kind: StoreErrorKind,
    },
    /// As many operations run as this process may run at once.
    Overloaded,
    /// The operation ran for this caller and panicked.
    Panicked,
    /// Its transaction met others each time it was run, and was rolled back.
    Contended,
    /// It ran, and the reply to its commit was lost: the next call with the same key finds out whether it took effect.
    Unconfirmed,
    /// It kept its transaction, which was therefore not committed.
    Leaked,
    /// The key, or the name of whose it is, is empty.
    Unnamed,
    /// Its policy says [`transaction`](crate::Policy::transaction), and it was called without one: nothing ran.
    NoTransaction,
    /// Its policy is [`financial`](crate::Policy::financial), and it does not say what its key is used with: nothing ran.
    NoFingerprint,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "the idempotency key was used with another request",
            Self::InFlight { .. } => "the first request with this idempotency key is in flight",
            Self::Unknown => "the outcome of the first request with this idempotency key is unknown",
            Self::NotKept => "the operation ran, its answer was not kept",
            Self::Unreadable => "the record of this idempotency key cannot be read by this version",
            Self::Unavailable { kind } => no_answer(*kind),
            Self::Overloaded => "too many operations are in flight",
            Self::Panicked => "the operation panicked",
            Self::Contended => "the transaction met others each time it was run, and was rolled back",
            Self::Unconfirmed => "the reply to the commit of the operation was lost",
            Self::Unnamed => "the idempotency key, or the name of whose it is, is empty",
            Self::Leaked => "the operation kept its transaction, which was not committed",
            Self::NoTransaction => {
                "the policy of the operation says `transaction`, and it was called without one: write `transact` or `execute_in`"
            }
            Self::NoFingerprint => {
                "the policy of the operation is `financial`, and a call with another amount would look the same: write \
                 `.fingerprint(Fingerprint::of_json(..)?)`, or `.any_input()` if the key alone says what is done"
            }
        })
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub(crate) const fn unavailable(kind: StoreErrorKind) -> Self {
        Self::Unavailable { kind }
    }
}

/// What is said of a store that did not do its step, to whoever asked for more than that step.
pub(crate) const fn no_answer(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable => "the idempotency store gave no answer",
        StoreErrorKind::Unreachable => "the idempotency store cannot be reached",
        StoreErrorKind::Full => "the idempotency store is full",
        StoreErrorKind::Conflict => "somebody else changed the record in the idempotency store",
        StoreErrorKind::Misconfigured => "the idempotency store is set up wrong",
    }
}
