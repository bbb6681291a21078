//! What an error of the driver means.

use std::{borrow::Cow, fmt};

use sqlx::{Error, error::DatabaseError};

use crate::store::{StoreError, StoreErrorKind};

/// Why a step was not taken, or may not have been. Unlike an error it can be told to many.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: StoreErrorKind,
    context: Cow<'static, str>,
}

// Primary result codes, https://www.sqlite.org/rescode.html. The low byte of every code is one of them.
const ERROR: i32 = 1;
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const TOOBIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;
/// Somebody wrote since this transaction began to read.
const BUSY_SNAPSHOT: i32 = BUSY | (2 << 8);

impl Fault {
    pub(super) fn new(kind: StoreErrorKind, context: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, context: context.into() }
    }

    pub(super) fn misconfigured(context: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, context)
    }

    /// The writer's task is gone.
    pub(super) fn unanswered() -> Self {
        Self::new(StoreErrorKind::Unavailable, "the runtime on which the store was opened has ended")
    }

    /// What an error of the driver means. Its words name tables and columns, never a value.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Database(error) => Self::of_code(code(error.as_ref()), error.message()),
            Error::PoolTimedOut => Self::new(
                StoreErrorKind::Unreachable,
                "no connection to the file came free within `lock_timeout`: other transactions of this process hold them",
            ),
            Error::PoolClosed => Self::new(StoreErrorKind::Unreachable, "the store's connections were closed"),
            Error::Configuration(_) | Error::InvalidArgument(_) | Error::Io(_) => {
                Self::misconfigured(format!("the file cannot be opened: {error}"))
            }
            _ => Self::new(StoreErrorKind::Unavailable, error.to_string()),
        }
    }

    /// The same for a commit, which is undone where the lock is somebody else's.
    pub(super) fn of_commit(error: &Error) -> Self {
        let fault = Self::of(error);
        if is_locked(error) { Self { kind: StoreErrorKind::Conflict, ..fault } } else { fault }
    }

    pub(super) fn locked() -> Self {
        Self::of_code(BUSY, "database is locked")
    }

    fn of_code(code: i32, message: &str) -> Self {
        let (kind, what) = match code & 0xff {
            BUSY if code == BUSY_SNAPSHOT => {
                (StoreErrorKind::Conflict, "somebody wrote since the transaction began to read")
            }
            BUSY | LOCKED => {
                (StoreErrorKind::Unreachable, "another connection held the file's lock for longer than `lock_timeout`")
            }
            FULL | TOOBIG => (StoreErrorKind::Full, "the disk is full, or the file as large as it may become"),
            READONLY => (StoreErrorKind::Misconfigured, "the file or its directory cannot be written to"),
            CANTOPEN | PERM | AUTH => (StoreErrorKind::Misconfigured, "the file cannot be opened"),
            NOTADB => (StoreErrorKind::Misconfigured, "the file is not a SQLite database"),
            CORRUPT => (StoreErrorKind::Misconfigured, "the file is damaged"),
            ERROR => (StoreErrorKind::Misconfigured, "the file's tables are not those of the store"),
            CONSTRAINT => (StoreErrorKind::Misconfigured, "a constraint of the tables was violated"),
            _ => (StoreErrorKind::Unavailable, "the file cannot be read or written"),
        };
        Self::new(kind, format!("{what} (SQLite says `{message}`, code {code})"))
    }

    pub(super) fn into_error(self) -> StoreError {
        StoreError::new(self.kind, self.context)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

/// Whether somebody else holds the write lock; the statement was not carried out.
pub(super) fn is_locked(error: &Error) -> bool {
    match error {
        Error::Database(error) => {
            let code = code(error.as_ref());
            code != BUSY_SNAPSHOT && matches!(code & 0xff, BUSY | LOCKED)
        }
        Error::PoolTimedOut => true,
        _ => false,
    }
}

fn code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_by_kind() {
        use StoreErrorKind::{Conflict, Full, Misconfigured, Unavailable, Unreachable};
        for (code, kind) in [
            (5, Unreachable),               // SQLITE_BUSY
            (5 | (1 << 8), Unreachable),    // SQLITE_BUSY_RECOVERY
            (5 | (2 << 8), Conflict),       // SQLITE_BUSY_SNAPSHOT
            (6, Unreachable),               // SQLITE_LOCKED
            (8, Misconfigured),             // SQLITE_READONLY
            (8 | (4 << 8), Misconfigured),  // SQLITE_READONLY_DBMOVED
            (10 | (3 << 8), Unavailable),   // SQLITE_IOERR_WRITE
            (10 | (4 << 8), Unavailable),   // SQLITE_IOERR_FSYNC
            (11, Misconfigured),            // SQLITE_CORRUPT
            (13, Full),                     // SQLITE_FULL
            (14, Misconfigured),            // SQLITE_CANTOPEN
            (1, Misconfigured),             // SQLITE_ERROR: no such table
            (19 | (3 << 8), Misconfigured), // SQLITE_CONSTRAINT_FOREIGNKEY
            (26, Misconfigured),            // SQLITE_NOTADB
            (7, Unavailable),               // SQLITE_NOMEM
        ] {
            assert_eq!(Fault::of_code(code, "").kind, kind, "{code}");
        }
    }
}
