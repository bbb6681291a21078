//! What went wrong, by kind.

use std::borrow::Cow;

use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::store::{StoreError, StoreErrorKind};

/// Why a step was not answered.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: StoreErrorKind,
    what: Cow<'static, str>,
    /// The code of the server, if it was the server that refused.
    code: Option<String>,
    /// Whether the connection is of no more use.
    pub(super) broken: bool,
    /// Whether the step was not sent on it.
    pub(super) unsent: bool,
}

impl Fault {
    pub(super) const fn new(kind: StoreErrorKind, what: &'static str) -> Self {
        Self { kind, what: Cow::Borrowed(what), code: None, broken: true, unsent: false }
    }

    pub(super) fn misconfigured(what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: StoreErrorKind::Misconfigured, what: what.into(), code: None, broken: false, unsent: false }
    }

    /// Somebody else holds what is needed, and may let go of it. Nothing was done.
    pub(super) fn held_up(what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: StoreErrorKind::Conflict, what: what.into(), code: None, broken: false, unsent: false }
    }

    /// A step that was sent and not answered in time.
    pub(super) const fn silent() -> Self {
        Self::new(StoreErrorKind::Unavailable, "no answer within the command time-out")
    }

    /// No connection, so nothing was sent.
    pub(super) const fn unreachable(what: &'static str) -> Self {
        Self::new(StoreErrorKind::Unreachable, what)
    }

    /// The same fault of a step that was sent before.
    pub(super) fn after_sending(mut self) -> Self {
        if self.kind == StoreErrorKind::Unreachable {
            self.kind = StoreErrorKind::Unavailable;
        }
        self
    }

    /// The same fault of a step behind a claim that was answered: whatever it is, that claim may have been won.
    pub(super) fn after_claiming(self) -> Self {
        Self { kind: StoreErrorKind::Unavailable, code: None, ..self }
    }

    /// The same fault before any step was sent.
    pub(super) fn before_sending(mut self) -> Self {
        if self.is("25006") {
            self.kind = StoreErrorKind::Misconfigured;
        } else if self.kind == StoreErrorKind::Unavailable {
            self.kind = StoreErrorKind::Unreachable;
        }
        self
    }

    /// The same fault where the step itself was not sent: another connection may do better.
    pub(super) fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// The row is somebody else's for longer than the lock time-out.
    pub(super) fn is_locked(&self) -> bool {
        self.is("55P03")
    }

    /// The same, or it was for longer than a statement may take in the transaction of somebody's session. A claim is
    /// about one row: it takes so long only where it waits.
    pub(super) fn waited_in_vain(&self) -> bool {
        self.is_locked() || self.is("57014")
    }

    /// The server answered, and goes on: what it refused did not happen.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.is_some() && !self.broken
    }

    /// The server undid the step to keep it apart from another: it may be taken again.
    pub(super) fn is_conflict(&self) -> bool {
        self.kind == StoreErrorKind::Conflict
    }

    pub(super) fn into_error(self, doing: &str) -> StoreError {
        match self.code {
            Some(code) => StoreError::new(self.kind, format!("{doing}: {} (`{code}`)", self.what)),
            None => StoreError::new(self.kind, format!("{doing}: {}", self.what)),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        use StoreErrorKind::{Misconfigured, Unavailable, Unreachable};
        match error {
            Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => {
                    let fatal = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
                    judge(error.code(), error.message(), fatal)
                }
                None => Self::new(Unavailable, "the server refused it"),
            },
            Error::Io(error) => {
                // Not its kind alone: a host whose name is unknown has none.
                Self { what: format!("the connection broke: {error}").into(), ..Self::new(Unavailable, "") }
            }
            Error::Tls(error) => Self { what: format!("TLS: {error}").into(), ..Self::new(Misconfigured, "") },
            Error::Configuration(_) => Self::new(Misconfigured, "the URL or one of its parameters is wrong"),
            Error::PoolTimedOut => Self::new(Unreachable, "no connection of the pool became free in time"),
            Error::PoolClosed => Self::new(Unreachable, "the pool is closed"),
            Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::TypeNotFound { .. } => {
                Self::new(Misconfigured, "the table has other columns than this version knows: run its migration")
            }
            // Out of step with the server, through a pooler or a middlebox.
            _ => Self::new(Unavailable, "the server answered what does not belong here"),
        }
    }
}

/// What the server refused, by its code. Its own words are shown only where they hold no value of a statement.
fn judge(code: &str, message: &str, fatal: bool) -> Fault {
    use StoreErrorKind::{Conflict, Full, Misconfigured, Unavailable};
    let class = code.get(..2).unwrap_or_default();
    let (kind, what): (_, Cow<'static, str>) = match (class, code) {
        (_, "40001" | "40P01") => (Conflict, "the server undid it to keep it apart from another".into()),
        (_, "55P03") => (Unavailable, "another transaction holds the row".into()),
        (_, "57014") => (Unavailable, "the statement time-out cut it off".into()),
        (_, "25006") => (Unavailable, "the server is read-only: name the primary".into()),
        (_, "25P02") => (Unavailable, "a statement of this transaction failed before".into()),
        (_, "53100") => (Full, "the disk of the server is full".into()),
        (_, "53200") => (Full, "the server is out of memory".into()),
        (_, "26000" | "42P05") => {
            (Misconfigured, "a pooler hands connections over between statements: write `transaction_pooler`".into())
        }
        (_, "08P01") if message.contains("startup parameter") => {
            (Misconfigured, format!("{message}: behind a pooler in transaction mode write `transaction_pooler`").into())
        }
        (_, "42P01") => (Misconfigured, "the table is missing: run `PostgresStore::migrate`".into()),
        (_, "42703") => {
            (Misconfigured, "the table has other columns than this version knows: run its migration".into())
        }
        (_, "42501") => (Misconfigured, format!("{message}: grant it").into()),
        // The plan of a statement that was prepared before the table changed.
        (_, "0A000") => (Unavailable, "the table changed".into()),
        ("28" | "3D" | "3F" | "42", _) => (Misconfigured, message.to_owned().into()),
        ("08" | "53" | "57" | "58", _) => (Unavailable, message.to_owned().into()),
        _ => (Unavailable, "the server refused it".into()),
    };
    let broken =
        fatal || matches!(code, "25006" | "26000" | "42P05" | "0A000" | "25P02") || matches!(class, "08" | "57");
    let broken = broken && code != "57014";
    Fault { kind, what, code: Some(code.to_owned()), broken, unsent: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_is_told_by_kind() {
        use StoreErrorKind::{Conflict, Full, Misconfigured, Unavailable};
        for (code, kind) in [
            ("40001", Conflict),
            ("40P01", Conflict),
            ("55P03", Unavailable),
            ("57014", Unavailable),
            ("57P01", Unavailable),
            ("57P03", Unavailable),
            ("53300", Unavailable),
            ("53100", Full),
            ("25006", Unavailable),
            ("28P01", Misconfigured),
            ("3D000", Misconfigured),
            ("42P01", Misconfigured),
            ("42501", Misconfigured),
            ("26000", Misconfigured),
            ("23505", Unavailable),
            ("XX000", Unavailable),
        ] {
            assert_eq!(judge(code, "", false).kind, kind, "{code}");
        }
        let secret = judge("22P02", "invalid input syntax: \"secret\"", false).into_error("claim");
        assert_eq!(secret.to_string(), "the store did not answer: claim: the server refused it (`22P02`)");
    }

    #[test]
    fn what_broke_a_connection_is_told() {
        let error = std::io::Error::other("failed to lookup address information");
        let error = Fault::from(Error::Io(error)).before_sending().into_error("connect");
        assert_eq!(
            error.to_string(),
            "the store cannot be reached: connect: the connection broke: failed to lookup address information"
        );
    }

    #[test]
    fn a_connection_that_cannot_go_on_is_told() {
        for (code, fatal, broken) in
            [("57P01", true, true), ("57014", false, false), ("55P03", false, false), ("25006", false, true)]
        {
            assert_eq!(judge(code, "", fatal).broken, broken, "{code}");
        }
    }
}
