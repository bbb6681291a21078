//! What a handler says of a delivery.

use super::{ConsumeError, Delivery, ParkedReason, ProcessError, Processed};

/// What a handler of deliveries may return: it says what is to become of the delivery.
///
/// That is what [`Consumer::process`](super::Consumer::process) gives; its error by itself, as
/// [`Undone::settle`](super::Undone::settle) does; the [`ConsumeError`] that a function under
/// `#[idempotent_consumer]` gave; or a bare [`Delivery`], which does not say that the event is parked, or that the
/// store gave no answer: it is not counted as that, and leaves no dead letter. A type of one's own says what becomes of the
/// delivery, and is taken for no more than that unless it says so.
pub trait Outcome {
    /// What is to become of the delivery.
    fn delivery(&self) -> Delivery;

    /// Why the event is parked, if it is.
    fn parked(&self) -> Option<ParkedReason> {
        None
    }

    /// Whether the event had taken effect before.
    fn is_duplicate(&self) -> bool {
        false
    }

    /// Whether nobody knows of the event because the store gave no answer.
    fn is_store_error(&self) -> bool {
        false
    }
}

impl Outcome for Delivery {
    fn delivery(&self) -> Delivery {
        *self
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As the answer of a handler that asks no consumer.
    struct Filed;

    impl Outcome for Filed {
        fn delivery(&self) -> Delivery {
            Delivery::Acknowledge
        }
    }

    #[test]
    fn an_outcome_of_ones_own_is_taken_for_no_more_than_it_says() {
        assert_eq!(Filed.delivery(), Delivery::Acknowledge);
        assert_eq!((Filed.parked(), Filed.is_duplicate(), Filed.is_store_error()), (None, false, false));
    }
}
