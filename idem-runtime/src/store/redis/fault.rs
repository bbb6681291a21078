//! What can go wrong with one command, and what the engine is told about it.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, StoreErrorKind};

/// Why a command has no reply that can be believed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server refused it; it was not applied.
    Refused(RedisError),
    /// The connection broke under it; it may have been applied.
    Broken(RedisError),
    /// Nothing came back in time; it may have been applied.
    Silent,
    /// There is no connection; it was not sent.
    Unreachable(Cause),
    /// The server is not one to be entrusted with it; it was not sent.
    Untrusted(Cause),
    /// Applied, but too few replicas said so in time.
    NotReplicated,
}

/// A [`StoreError`] that several waiters are told.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) kind: StoreErrorKind,
    pub(crate) context: Arc<str>,
}

impl Fault {
    /// Whether the server refused it with this error code.
    pub(super) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some(code))
    }

    /// Whether another server may know better: this one is not the master, or not any more, or not yet.
    pub(super) fn is_elsewhere(&self) -> bool {
        match self {
            Self::Refused(error) => matches!(
                error.code(),
                Some("READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "LOADING" | "TRYAGAIN" | "MOVED" | "UNBLOCKED")
            ),
            Self::Broken(_) | Self::Unreachable(_) => true,
            Self::Silent | Self::NotReplicated | Self::Untrusted(_) => false,
        }
    }

    /// The same of a step whose first reply was lost, or not believed: what keeps it from being asked again says nothing of that time.
    pub(super) fn behind_a_lost_reply(self) -> Self {
        match self {
            Self::Refused(error) if Cause::of(&error).kind != StoreErrorKind::Unavailable => Self::Broken(error),
            Self::Unreachable(cause) | Self::Untrusted(cause) => Self::Unreachable(Cause::unavailable(cause.context)),
            fault => fault,
        }
    }

    pub(super) fn into_error(self, doing: &str) -> StoreError {
        let Cause { kind, context } = self.into_cause();
        StoreError::new(kind, format!("{doing}: {context}"))
    }

    pub(super) fn into_cause(self) -> Cause {
        match self {
            Self::Refused(error) => Cause::of(&error),
            Self::Broken(error) => Cause::unavailable(format!("the connection broke: {}", one_line(&error))),
            Self::Silent => Cause::unavailable("no reply in time"),
            Self::Unreachable(cause) | Self::Untrusted(cause) => cause,
            Self::NotReplicated => Cause::unavailable("too few replicas confirmed it in time"),
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => Self::Refused(error),
            _ => Self::Broken(error),
        }
    }
}

impl Cause {
    pub(super) fn new(kind: StoreErrorKind, context: impl Into<Arc<str>>) -> Self {
        Self { kind, context: context.into() }
    }

    pub(crate) fn unavailable(context: impl Into<Arc<str>>) -> Self {
        Self::new(StoreErrorKind::Unavailable, context)
    }

    pub(super) fn misconfigured(context: impl Into<Arc<str>>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, context)
    }

    /// What an error of the driver means, in words that name no key and no password.
    pub(crate) fn of(error: &RedisError) -> Self {
        let kind = match error.code() {
            Some("OOM") => StoreErrorKind::Full,
            Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "CROSSSLOT") => StoreErrorKind::Misconfigured,
            // What it says besides depends on the server.
            Some("ERR") if error.to_string().starts_with("Redis server refused to switch database") => {
                StoreErrorKind::Misconfigured
            }
            Some("ERR") if error.detail().is_some_and(is_misconfiguration) => StoreErrorKind::Misconfigured,
            Some("MOVED" | "ASK") => StoreErrorKind::Unavailable,
            _ => match error.kind() {
                ErrorKind::AuthenticationFailed
                | ErrorKind::InvalidClientConfig
                | ErrorKind::RESP3NotSupported
                | ErrorKind::Server(ServerErrorKind::NoPerm) => StoreErrorKind::Misconfigured,
                _ => StoreErrorKind::Unavailable,
            },
        };
        // The details of MOVED and ASK are addresses, those of WRONGPASS and the like say what to do. A detail never
        // holds an argument of ours, but for `unknown command`, which shows the start of each: cut there.
        let context: Arc<str> = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => {
                let detail = detail.split(", with args").next().unwrap_or_default();
                // `script: DIGEST, on @user_script:LINE` says nothing to a user; what comes before may hold the word too.
                let detail = match detail.rsplit_once(" script: ") {
                    Some((said, place)) if place.contains("@user_script") => said,
                    _ => detail,
                };
                format!("the server answered `{code} {detail}`").into()
            }
            (Some(code), None) => format!("the server answered `{code}`").into(),
            (None, _) => one_line(error).into(),
        };
        Self { kind, context }
    }

    pub(super) fn into_error(self) -> StoreError {
        StoreError::new(self.kind, &*self.context)
    }
}

/// The driver's parser writes what it found on lines of their own.
fn one_line(error: &RedisError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_misconfiguration(detail: &str) -> bool {
    [
        "unknown command",
        "unknown subcommand",
        "cluster support disabled",
        "without any password",
        "invalid password",
        // What NOPERM is called where a script calls a command.
        "user executing the script",
        "ACL failure in script",
    ]
    .iter()
    .any(|sign| detail.contains(sign))
}

#[cfg(test)]
mod tests {
    use redis::{ServerError, parse_redis_value};

    use super::*;

    fn refused(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error line");
        let redis::Value::ServerError(error) = value else { panic!("`{line}` is not an error") };
        RedisError::from(ServerError::clone(&error))
    }

    #[test]
    fn what_the_server_refuses_is_told_by_kind() {
        use StoreErrorKind::{Full, Misconfigured, Unavailable};
        for (line, kind) in [
            ("OOM command not allowed when used memory > 'maxmemory'. script: abc, on @user_script:3.", Full),
            ("NOAUTH Authentication required.", Misconfigured),
            ("WRONGPASS invalid username-password pair or user is disabled.", Misconfigured),
            ("NOPERM User app has no permissions to run the 'evalsha' command", Misconfigured),
            ("ERR unknown command 'EVALSHA', with args beginning with: 'secret' ", Misconfigured),
            ("ERR This instance has cluster support disabled", Misconfigured),
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("READONLY You can't write against a read only replica.", Unavailable),
            ("CLUSTERDOWN The cluster is down", Unavailable),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            ("MISCONF Redis is configured to save RDB snapshots", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", Unavailable),
            ("ERR something new", Unavailable),
        ] {
            let error = Fault::from(refused(line)).into_error("claim");
            assert_eq!(error.kind(), kind, "{line}");
            let text = error.to_string();
            assert!(!text.contains("secret") && !text.contains("@user_script"), "{text}");
        }
    }

    #[test]
    fn what_is_no_redis_is_told_in_one_line() {
        let error = parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").expect_err("no reply of a Redis");
        assert!(error.to_string().contains('\n'), "{error}");
        for text in [Cause::of(&error).context.to_string(), Fault::Broken(error).into_cause().context.to_string()] {
            assert!(text.contains("Parse error") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn what_is_refused_the_second_time_may_have_been_done_the_first_time() {
        use StoreErrorKind::Unavailable;
        let second = |line: &str| Fault::from(refused(line)).behind_a_lost_reply();
        for (code, said) in [("OOM", "command not allowed"), ("NOPERM", "no permissions"), ("WRONGPASS", "disabled")] {
            let error = second(&format!("{code} {said}")).into_error("claim");
            assert_eq!(error.kind(), Unavailable, "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        for elsewhere in ["MOVED", "ASK", "READONLY", "MASTERDOWN"] {
            assert!(second(&format!("{elsewhere} 3999 127.0.0.1:6381")).is(elsewhere));
        }
        for fault in [Fault::Unreachable, Fault::Untrusted] {
            let fault = fault(Cause::misconfigured("it evicts")).behind_a_lost_reply();
            assert_eq!(fault.into_cause().kind, Unavailable);
        }
    }

    /// As the driver says it, which selects the database while it connects.
    #[test]
    fn a_database_that_is_not_there_is_a_wrong_configuration() {
        let said = "DB index is out of range".to_owned();
        let refused = (ServerErrorKind::ResponseError.into(), "Redis server refused to switch database", said);
        let Cause { kind, context } = Cause::of(&RedisError::from(refused));
        assert_eq!(
            (kind, &*context),
            (StoreErrorKind::Misconfigured, "the server answered `ERR DB index is out of range`")
        );
    }

    #[test]
    fn what_a_script_may_not_call_is_told() {
        // Redis 7.0, and what came after it.
        for said in [
            "The user executing the script can't run this command or subcommand",
            "ACL failure in script: User app has no permissions to run the 'pexpiretime' command",
        ] {
            let error =
                Fault::from(refused(&format!("ERR {said} script: abc, on @user_script:3."))).into_error("claim");
            assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
            assert!(error.to_string().ends_with(&format!("`ERR {said}`")), "{error}");
        }
    }
}
