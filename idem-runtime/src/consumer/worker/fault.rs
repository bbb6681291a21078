//! What a broker says of a worker.

use std::fmt;

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
