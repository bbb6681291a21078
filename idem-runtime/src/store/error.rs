//! Why a store could not answer.

use std::fmt;

/// Why a store could not answer. Names no key, no value and no address with a password.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure it is, and so what the engine does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No answer: the step may or may not have been taken. The engine asks again with the same token.
    Unavailable,
    /// No connection: the step was not sent, so it was not taken.
    Unreachable,
    /// The store refuses to grow; the step was not taken.
    Full,
    /// The transaction met another one and was undone, as the database does to keep them apart: it may run again.
    Conflict,
    /// Wrong address, wrong settings, wrong schema: asking again will not help.
    Misconfigured,
}

impl StoreError {
    /// An error of this kind, with what was being done in a few words.
    pub fn new(kind: StoreErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same error with what caused it. The source must not show keys, answers or passwords.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error of a step before a commit that was therefore not sent: nobody needs to ask what became of it.
    #[must_use]
    pub fn not_committed(mut self) -> Self {
        if self.kind == StoreErrorKind::Unavailable {
            self.kind = StoreErrorKind::Unreachable;
        }
        self
    }

    /// The same error of a step behind which something may be left: it is not for the store to say that nothing was taken.
    #[cfg(feature = "redis")]
    pub(crate) fn taken_perhaps(mut self) -> Self {
        self.kind = StoreErrorKind::Unavailable;
        self
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            StoreErrorKind::Unavailable => "the store did not answer",
            StoreErrorKind::Unreachable => "the store cannot be reached",
            StoreErrorKind::Full => "the store is full",
            StoreErrorKind::Conflict => "the transaction met another one",
            StoreErrorKind::Misconfigured => "the store is set up wrong",
        };
        write!(f, "{kind}: {}", self.context)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
