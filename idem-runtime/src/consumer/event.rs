//! What a consumer is given, and what it says.

use std::{fmt, time::Duration};

use bytes::Bytes;

use super::note::Note;
use crate::{
    engine::{Refusal, no_answer},
    record::Answer,
    store::{StoreError, StoreErrorKind},
};

/// One event as a broker delivers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    id: Option<String>,
    payload: Bytes,
}

/// An event that took effect, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processed<T> {
    /// What the handler returned, now or the first time.
    pub value: T,
    /// Whether it ran before: `value` is what it returned then.
    pub duplicate: bool,
    /// Whether the claim was lost while the handler ran, as by standing still for longer than its lease: another delivery took
    /// the event over, so that it ran twice. `value` is what this run returned; every duplicate gets the other's.
    pub lost_claim: bool,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ProcessError<E> {
    /// The handler returned this error: the event is undone.
    #[non_exhaustive]
    Failed {
        /// The handler's own.
        error: E,
        /// Which attempt it was: 1 for the first.
        attempt: u32,
        /// It was the last one that [`Policy::max_attempts`](crate::Policy::max_attempts) allows, and the event is parked.
        parked: bool,
    },
    /// The handler returned nothing: it did not run for this delivery, or panicked.
    Refused(ConsumeError),
}

/// Why an event was refused. It says what is to become of the delivery: [`delivery`](Self::delivery).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The event is parked, now or before: it does not run until somebody redrives it.
    Parked(ParkedReason),
    /// Another delivery of the event is being handled.
    #[non_exhaustive]
    InFlight {
        /// What is left of its lease; it may be done much sooner.
        retry_after: Duration,
    },
    /// It took effect; what the handler returned was too large, has expired, is of another type than is asked for now, or was settled by
    /// hand.
    NotKept,
    /// The handler panicked: the event is undone.
    #[non_exhaustive]
    Panicked {
        /// Which attempt it was: 1 for the first.
        attempt: u32,
    },
    /// The store gave no answer, or one that helps nobody. Made of a [`StoreError`] with `from`.
    #[non_exhaustive]
    Unavailable {
        /// Why: whether it is worth asking again soon.
        kind: StoreErrorKind,
    },
    /// As many operations run as this process may run at once.
    Overloaded,
    /// There is a record, damaged or of a newer version: the event ran or runs.
    Unreadable,
    /// The handler kept its [`Tx`](crate::Tx), in a task perhaps: the event is undone, and the attempt not counted.
    Leaked,
    /// The consumer's policy says [`transaction`](crate::Policy::transaction), and the event was handed in without one:
    /// nothing ran.
    NoTransaction,
}

/// Why an event is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParkedReason {
    /// It was tried [`Policy::max_attempts`](crate::Policy::max_attempts) times.
    Failed,
    /// Its worker vanished or panicked, and an effect that may have happened is not to be tried again: `financial`, or
    /// `on_abandoned = refuse`.
    OutcomeUnknown,
    /// Its id was used with another payload.
    KeyReused,
    /// It has no id.
    NoId,
    /// Its bytes are not what they should be. It is parked beside its id: what is delivered under that and decodes, runs.
    Undecodable,
}

/// What is to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a delivery that is not acknowledged comes again"]
pub enum Delivery {
    /// The event is settled: done, or parked in the store. The broker may forget it. The store has no payload that is larger than
    /// [`max_answer_bytes`](crate::IdempotencySetup::max_answer_bytes): where the broker has the only copy, see to a dead letter first.
    Acknowledge,
    /// The event is open: the broker is to deliver it again, best not before `after`.
    Retry {
        /// A good time to wait.
        after: Duration,
    },
}

impl<T> Processed<T> {
    pub(super) const fn fresh(value: T) -> Self {
        Self { value, duplicate: false, lost_claim: false }
    }
}

impl Event {
    /// The event that its producer calls `id`. An empty id is none.
    ///
    /// The id comes from whoever made the event, never from the broker: a message number changes when the event is
    /// published again.
    pub fn new(id: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        let id = id.into();
        Self { id: (!id.is_empty()).then_some(id), payload: payload.into() }
    }

    /// An event without an id: it is parked, unless `missing = run` is chosen.
    pub fn without_id(payload: impl Into<Bytes>) -> Self {
        Self { id: None, payload: payload.into() }
    }

    /// The same event under this id.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self::new(id, self.payload)
    }

    /// What its producer calls it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Its bytes.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// Never the id or the payload.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", if self.id.is_some() { &"(..)" } else { &"(none)" })
            .field("payload", &format_args!("({} bytes)", self.payload.len()))
            .finish()
    }
}

impl Delivery {
    /// What is to become of the delivery that came to this.
    pub fn of<T, E>(result: &Result<Processed<T>, ProcessError<E>>) -> Self {
        match result {
            Ok(_) => Self::Acknowledge,
            Err(error) => error.delivery(),
        }
    }

    const fn retry(after: Duration) -> Self {
        Self::Retry { after }
    }

    /// A tenth of a second after the first attempt, twice as long after each one more, half a minute at most.
    fn after_attempt(attempt: u32) -> Self {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        Self::retry(Duration::from_millis(100).saturating_mul(doubled).min(Duration::from_secs(30)))
    }
}

impl<E> ProcessError<E> {
    /// What is to become of the delivery.
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Failed { parked: true, .. } => Delivery::Acknowledge,
            Self::Failed { attempt, .. } => Delivery::after_attempt(*attempt),
            Self::Refused(error) => error.delivery(),
        }
    }

    /// Why the event is parked, now or before; `None`: it is not. Whoever acknowledges it may want a dead letter first.
    pub const fn parked(&self) -> Option<ParkedReason> {
        match self {
            Self::Failed { parked: true, .. } => Some(ParkedReason::Failed),
            Self::Failed { parked: false, .. } => None,
            Self::Refused(error) => error.parked(),
        }
    }
}

impl ConsumeError {
    /// Why the event is parked, now or before; `None`: it is not.
    pub const fn parked(&self) -> Option<ParkedReason> {
        match self {
            Self::Parked(reason) => Some(*reason),
            _ => None,
        }
    }

    /// What is to become of the delivery.
    pub fn delivery(&self) -> Delivery {
        match self {
            Self::Parked(_) | Self::NotKept => Delivery::Acknowledge,
            Self::InFlight { retry_after } => Delivery::retry(*retry_after),
            Self::Panicked { attempt } => Delivery::after_attempt(*attempt),
            Self::Unavailable { .. } | Self::Overloaded => Delivery::retry(Duration::from_secs(1)),
            // Nothing changes before somebody looks; the event must not be lost meanwhile.
            Self::Unreadable | Self::Leaked | Self::NoTransaction => Delivery::retry(Duration::from_secs(30)),
        }
    }

    /// Somebody settled the event while it was looked at: the next delivery sees how.
    pub(super) const CHANGED: Self = Self::InFlight { retry_after: Duration::from_millis(100) };

    pub(super) const fn unavailable(kind: StoreErrorKind) -> Self {
        Self::Unavailable { kind }
    }

    /// What cannot be, where an answer of the store is missing.
    pub(super) const NO_ANSWER: Self = Self::unavailable(StoreErrorKind::Unavailable);

    /// Why the event of a parked record does not run.
    pub(super) fn of_note(note: &Answer) -> Self {
        Note::open(note).map_or(Self::Unreadable, |note| Self::Parked(note.reason))
    }

    /// Everything but `Unknown` and `Mismatch`, which a consumer parks.
    pub(super) fn from_refusal(refusal: Refusal, attempt: u32) -> Self {
        match refusal {
            Refusal::InFlight { retry_after } => Self::InFlight { retry_after },
            Refusal::NotKept => Self::NotKept,
            Refusal::Unavailable { kind } => Self::unavailable(kind),
            Refusal::Contended => Self::unavailable(StoreErrorKind::Conflict),
            Refusal::Unconfirmed => Self::unavailable(StoreErrorKind::Unavailable),
            Refusal::Overloaded => Self::Overloaded,
            Refusal::Panicked => Self::Panicked { attempt },
            Refusal::Leaked => Self::Leaked,
            Refusal::NoTransaction => Self::NoTransaction,
            // The last two cannot be: an event is parked without an id, and compared by its payload.
            Refusal::Unreadable | Refusal::Unknown | Refusal::Mismatch | Refusal::Unnamed | Refusal::NoFingerprint => {
                Self::Unreadable
            }
        }
    }
}

/// What is to be said of a delivery when a step of one's own at the store failed, as the commit behind
/// [`process_in`](super::Consumer::process_in).
impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.kind())
    }
}

impl<E> From<ConsumeError> for ProcessError<E> {
    fn from(error: ConsumeError) -> Self {
        Self::Refused(error)
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parked(reason) => write!(f, "the event is parked: {reason}"),
            Self::InFlight { .. } => f.write_str("another delivery of the event is being handled"),
            Self::NotKept => f.write_str("the event took effect, what its handler returned was not kept"),
            Self::Panicked { .. } => f.write_str("the handler panicked"),
            Self::Unavailable { kind } => f.write_str(no_answer(*kind)),
            Self::Overloaded => f.write_str("too many operations are in flight"),
            Self::Unreadable => f.write_str("the record of the event cannot be read by this version"),
            Self::Leaked => f.write_str("the handler kept its transaction, which was not committed"),
            Self::NoTransaction => f.write_str(
                "the policy of the consumer says `transaction`, and the event has none: write `transact` or `process_in`",
            ),
        }
    }
}

impl std::error::Error for ConsumeError {}

impl fmt::Display for ParkedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "it failed as often as it may",
            Self::OutcomeUnknown => "it may or may not have taken effect",
            Self::KeyReused => "its id was used with another payload",
            Self::NoId => "it has no id",
            Self::Undecodable => "its bytes are not what they should be",
        })
    }
}

impl<E: fmt::Display> fmt::Display for ProcessError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { error, .. } => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ProcessError<E> {
    // What either says is said above.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { error, .. } => error.source(),
            Self::Refused(error) => error.source(),
        }
    }
}
