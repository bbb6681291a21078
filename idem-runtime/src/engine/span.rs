//! The span of a guarded operation, for whoever listens at the level of `debug`.

use std::future::Future;

use tracing::{
    Instrument, Level, Span, debug_span, field::Empty, instrument::Instrumented, level_filters::LevelFilter,
};

use super::{Engine, Operation, Ran, Refusal};

const TARGET: &str = "idem_runtime";
const NAME: &str = "idempotent";

impl Operation {
    /// All that is done about it, its effect included, inside its span.
    pub(super) fn inside<F: Future>(&self, doing: F) -> Instrumented<F> {
        doing.instrument(self.span())
    }

    pub(super) fn span(&self) -> Span {
        debug_span!(
            target: TARGET,
            NAME,
            scope = self.terms.scope,
            key = %self.key,
            attempt = Empty,
            outcome = Empty,
        )
    }
}

impl Engine {
    /// Counts how an operation was answered. What ended a turn is in its span by now; that there was no turn is said here.
    pub(super) fn answered<T>(&self, ran: &Result<Ran<T>, Refusal>) {
        if matches!(ran, Err(Refusal::InFlight { .. } | Refusal::Overloaded)) {
            note_outcome(ran);
        }
        self.0.counters.answered(ran);
    }
}

/// Says, inside the span of an operation, which attempt at it runs.
pub(super) fn note_attempt(attempt: u32) {
    note(|span| {
        span.record("attempt", attempt);
    });
}

/// Says, inside the span of an operation, what became of it.
pub(super) fn note_outcome<T>(ran: &Result<Ran<T>, Refusal>) {
    note(|span| {
        span.record("outcome", outcome(ran));
    });
}

fn note(write: impl FnOnce(&Span)) {
    // Asked first, as it costs next to nothing and mostly nobody listens.
    if LevelFilter::current() < Level::DEBUG {
        return;
    }
    let span = Span::current();
    // Where this one is filtered out, the current one is somebody else's.
    if span.metadata().is_some_and(|metadata| metadata.target() == TARGET && metadata.name() == NAME) {
        write(&span);
    }
}

fn outcome<T>(ran: &Result<Ran<T>, Refusal>) -> &'static str {
    match ran {
        Ok(Ran::Fresh(_)) => "fresh",
        Ok(Ran::Stale(_)) => "stale",
        Ok(Ran::Replay(_)) => "replayed",
        Ok(Ran::Parked(_)) => "parked",
        Err(Refusal::Mismatch) => "mismatch",
        Err(Refusal::InFlight { .. }) => "in_flight",
        Err(Refusal::Unknown) => "unknown",
        Err(Refusal::NotKept) => "not_kept",
        Err(Refusal::Unreadable) => "unreadable",
        Err(Refusal::Unavailable { .. }) => "unavailable",
        Err(Refusal::Overloaded) => "overloaded",
        Err(Refusal::Panicked) => "panicked",
        Err(Refusal::Contended) => "contended",
        Err(Refusal::Unconfirmed) => "unconfirmed",
        Err(Refusal::Leaked) => "leaked",
        Err(Refusal::Unnamed) => "unnamed",
        Err(Refusal::NoTransaction) => "no_transaction",
        Err(Refusal::NoFingerprint) => "no_fingerprint",
    }
}
