//! What a handler says of a delivery, and what a broker says of a worker.

use std::fmt;

use crate::consumer::{ConsumeError, Delivery, ParkedReason, ProcessError, Processed};

/// What a handler of deliveries may return: it says what is to become of the delivery.
///
/// That is what [`Consumer::process`](crate::consumer::Consumer::process) gives; its error by itself, as
/// [`Undone::settle`](crate::consumer::Undone::settle) does; the [`ConsumeError`] that a function under
/// `#[idempotent_consumer]` gave; or a bare [`Delivery`], which does not say that the event is parked, or that the
/// store gave no answer: it is not counted as that, and leaves no dead letter.
pub trait Outcome {
    /// What is to become of the delivery.
    fn delivery(&self) -> Delivery;

    /// Why the event is parked, if it is.
    fn parked(&self) -> Option<ParkedReason>;

    /// Whether the event had taken effect before.
    fn is_duplicate(&self) -> bool;

    /// Whether nobody knows of the event because the store gave no answer.
    fn is_store_error(&self) -> bool;
}

impl Outcome for Delivery {
    fn delivery(&self) -> Delivery {
        *self
    }

    fn parked(&self) -> Option<ParkedReason> {
        None
    }

    fn is_duplicate(&self) -> bool {
        false
    }

    fn is_store_error(&self) -> bool {
        false
    }
}

impl<T, E> Outcome for Result<Processed<T>, ProcessError<E>> {
    fn delivery(&self) -> Delivery {
        Delivery::of(self)
    }

    fn parked(&self) -> Option<ParkedReason> {
        self.as_ref().err().and_then(ProcessError::parked)
    }

    fn is_duplicate(&self) -> bool {
        self.as_ref().map_or_else(Outcome::is_duplicate, |processed| processed.duplicate)
    }

    fn is_store_error(&self) -> bool {
        self.as_ref().is_err_and(Outcome::is_store_error)
    }
}

impl<E> Outcome for ProcessError<E> {
    fn delivery(&self) -> Delivery {
        Self::delivery(self)
    }

    fn parked(&self) -> Option<ParkedReason> {
        Self::parked(self)
    }

    fn is_duplicate(&self) -> bool {
        match self {
            Self::Failed { .. } => false,
            Self::Refused(error) => error.is_duplicate(),
        }
    }

    fn is_store_error(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_store_error())
    }
}

/// Where there is no error the event took effect, now or before.
impl<T> Outcome for Result<T, ConsumeError> {
    fn delivery(&self) -> Delivery {
        self.as_ref().map_or_else(Outcome::delivery, |_| Delivery::Acknowledge)
    }

    fn parked(&self) -> Option<ParkedReason> {
        self.as_ref().err().and_then(ConsumeError::parked)
    }

    fn is_duplicate(&self) -> bool {
        self.as_ref().is_err_and(Outcome::is_duplicate)
    }

    fn is_store_error(&self) -> bool {
        self.as_ref().is_err_and(Outcome::is_store_error)
    }
}

impl Outcome for ConsumeError {
    fn delivery(&self) -> Delivery {
        Self::delivery(self)
    }

    fn parked(&self) -> Option<ParkedReason> {
        Self::parked(self)
    }

    fn is_duplicate(&self) -> bool {
        matches!(self, Self::NotKept)
    }

    fn is_store_error(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Why a broker did not do what it was asked. Names no address and no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    kind: BrokerErrorKind,
    context: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerErrorKind {
    /// There is no connection, or no answer in time. A worker asks again until there is.
    Unavailable,
    /// The broker refused: wrong login, wrong name, wrong settings. Asking again will not help.
    Misconfigured,
}

impl BrokerError {
    pub(in crate::consumer) fn unavailable(context: impl Into<String>) -> Self {
        Self { kind: BrokerErrorKind::Unavailable, context: context.into() }
    }

    pub(in crate::consumer) fn misconfigured(context: impl Into<String>) -> Self {
        Self { kind: BrokerErrorKind::Misconfigured, context: context.into() }
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            BrokerErrorKind::Unavailable => "the broker did not answer",
            BrokerErrorKind::Misconfigured => "the broker refused",
        };
        write!(f, "{kind}: {}", self.context)
    }
}

impl std::error::Error for BrokerError {}
