//! The statements, as text and arguments that any driver can send.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::row::State;
use crate::{
    clock::micros,
    key::StorageKey,
    record::Answer,
    store::{Abandoned, Claim, Complete, Outcome, Parked, Release, Renew, Resolve, Verdict},
};

/// The texts for one table.
#[derive(Debug)]
pub(super) struct Texts {
    first: Arc<str>,
    insert: Arc<str>,
    /// Gives a transaction its own lock time-out again.
    pub(super) unlimit: Arc<str>,
    claim: Arc<str>,
    refresh: Arc<str>,
    renew: Arc<str>,
    complete: Arc<str>,
    release: Arc<str>,
    resolve: Arc<str>,
    parked: Arc<str>,
    forget: Arc<str>,
    #[cfg(feature = "redis")]
    kept: Arc<str>,
    expire: Arc<str>,
    nothing: Arc<str>,
    ping: Arc<str>,
}

/// One statement, ready to be sent.
#[derive(Debug)]
pub(super) struct Statement {
    /// What it does, for errors.
    pub(super) doing: &'static str,
    pub(super) text: Arc<str>,
    pub(super) arguments: Vec<Argument>,
    /// Whether it may be sent again when nobody knows what became of it.
    pub(super) repeatable: bool,
}

/// What is bound, as PostgreSQL calls it.
pub(super) enum Argument {
    /// `bytea`
    Bytes(Option<Bytes>),
    /// `bigint`
    Number(Option<i64>),
    /// `bytea[]`
    ManyBytes(Vec<Vec<u8>>),
    /// `bigint[]`
    ManyNumbers(Vec<Option<i64>>),
    /// `boolean[]`
    ManyFlags(Vec<bool>),
}

impl Texts {
    /// The texts for a table of this name, quoted, and for claims in transactions that wait for a row so long.
    pub(super) fn new(table: &str, lock_timeout: Duration) -> Self {
        let now = include_str!("sql/now.sql").trim();
        let readable = include_str!("sql/readable.sql").trim();
        let text = |of: &str| -> Arc<str> {
            of.replace("{readable}", readable).replace("{now}", now).replace("{table}", table).into()
        };
        let unlimit = include_str!("sql/unlimit.sql").trim();
        let insert = include_str!("sql/insert.sql").replace("{lock_timeout}", &milliseconds(lock_timeout));
        Self {
            first: text(include_str!("sql/first.sql")),
            insert: text(&insert.replace("{unlimit}", unlimit)),
            unlimit: format!("SELECT {unlimit}").into(),
            claim: text(include_str!("sql/claim.sql")),
            refresh: text(include_str!("sql/refresh.sql")),
            renew: text(include_str!("sql/renew.sql")),
            complete: text(include_str!("sql/complete.sql")),
            release: text(include_str!("sql/release.sql")),
            resolve: text(include_str!("sql/resolve.sql")),
            parked: text(include_str!("sql/parked.sql")),
            forget: text(include_str!("sql/forget.sql")),
            #[cfg(feature = "redis")]
            kept: text(include_str!("sql/kept.sql")),
            expire: text(include_str!("sql/expire.sql")),
            nothing: "SELECT WHERE false".into(),
            ping: text("UPDATE {table} SET format = format WHERE false"),
        }
    }

    /// Claims a key that has no record, or reads the record that it has.
    pub(super) fn first(&self, claim: &Claim) -> Statement {
        Statement::new("claim", &self.first, first(claim))
    }

    /// Claims a key that has no record, as part of a transaction.
    pub(super) fn insert(&self, claim: &Claim) -> Statement {
        Statement::new("claim", &self.insert, first(claim))
    }

    /// Claims keys of which no two are alike, in the order of the keys.
    pub(super) fn claim(&self, claims: &[&Claim]) -> Statement {
        let bytes =
            |of: fn(&Claim) -> &[u8]| Argument::ManyBytes(claims.iter().map(|claim| of(claim).to_vec()).collect());
        let arguments = vec![
            bytes(|claim| claim.key.as_bytes()),
            bytes(|claim| claim.token.as_bytes()),
            bytes(|claim| claim.fingerprint.as_bytes()),
            Argument::ManyNumbers(claims.iter().map(|claim| Some(length(claim.lease))).collect()),
            Argument::ManyNumbers(claims.iter().map(|claim| claim.retention.map(length)).collect()),
            Argument::ManyFlags(claims.iter().map(|claim| claim.abandoned == Abandoned::MarkUnknown).collect()),
        ];
        Statement::new("claim", &self.claim, arguments)
    }

    pub(super) fn refresh(&self, claim: &Claim) -> Statement {
        let arguments = vec![
            bytes(claim.key.as_bytes()),
            bytes(claim.token.as_bytes()),
            number(length(claim.lease)),
            Argument::Number(claim.retention.map(length)),
        ];
        Statement::new("claim", &self.refresh, arguments)
    }

    pub(super) fn renew(&self, renew: &Renew) -> Statement {
        let arguments = vec![
            bytes(renew.key.as_bytes()),
            bytes(renew.token.as_bytes()),
            number(length(renew.lease)),
            Argument::Number(renew.retention.map(length)),
        ];
        Statement::new("renew", &self.renew, arguments)
    }

    pub(super) fn complete(&self, complete: &Complete) -> Statement {
        let times = Some((complete.ttl, complete.remember));
        let (state, times, answer) = match &complete.outcome {
            Outcome::Answer(answer) => (State::Answer, times, Some(answer)),
            Outcome::Tombstone => (State::Tombstone, times, None),
            Outcome::Unknown => (State::Unknown, None, None),
            Outcome::Parked(note) => (State::Parked, None, Some(note)),
        };
        let mut arguments = vec![bytes(complete.key.as_bytes()), bytes(complete.token.as_bytes())];
        arguments.extend(ending(state, times, answer));
        Statement::new("complete", &self.complete, arguments)
    }

    pub(super) fn release(&self, release: &Release) -> Statement {
        let arguments = vec![
            bytes(release.key.as_bytes()),
            bytes(release.token.as_bytes()),
            Argument::Number(release.remember.map(length)),
        ];
        // Sent again, it would be told that the record is no longer the owner's.
        Statement { repeatable: false, ..Statement::new("release", &self.release, arguments) }
    }

    pub(super) fn resolve(&self, resolve: &Resolve) -> Statement {
        let (state, times, answer) = match &resolve.verdict {
            Verdict::Completed { answer, ttl, remember } => {
                let state = if answer.is_some() { State::Answer } else { State::Tombstone };
                (state, Some((*ttl, *remember)), answer.as_ref())
            }
            Verdict::NotExecuted => (State::Absent, Some((Duration::ZERO, Duration::ZERO)), None),
            Verdict::Parked(note) => (State::Parked, None, Some(note)),
        };
        let fence = resolve.fence.map(|fence| i64::try_from(fence.get()).unwrap_or(i64::MAX));
        let mut arguments = vec![bytes(resolve.key.as_bytes()), Argument::Number(fence)];
        arguments.extend(ending(state, times, answer));
        // Sent again, it would be told that the record is settled already.
        Statement { repeatable: false, ..Statement::new("resolve", &self.resolve, arguments) }
    }

    pub(super) fn parked(&self, parked: &Parked) -> Statement {
        let after = parked.after.as_ref().map_or(&[][..], |key| key.as_bytes());
        let limit = i64::try_from(parked.limit).unwrap_or(i64::MAX);
        Statement::new("parked", &self.parked, vec![bytes(after), number(limit)])
    }

    pub(super) fn forget(&self, key: &StorageKey) -> Statement {
        // Sent again, it would be told that there is nothing.
        Statement { repeatable: false, ..Statement::new("forget", &self.forget, vec![bytes(key.as_bytes())]) }
    }

    #[cfg(feature = "redis")]
    pub(super) fn kept(&self, keys: &[StorageKey]) -> Statement {
        let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        Statement::new("read answers", &self.kept, vec![Argument::ManyBytes(keys)])
    }

    /// Asks whether the server is there.
    pub(super) fn nothing(&self) -> Statement {
        Statement::new("ask", &self.nothing, Vec::new())
    }

    /// Asks whether the server takes what a claim writes: a standby, and a database that is read-only, refuses even to write nothing.
    pub(super) fn ping(&self) -> Statement {
        Statement::new("ping", &self.ping, Vec::new())
    }

    pub(super) fn expire(&self, limit: u32, after: Duration) -> Statement {
        Statement::new("expire", &self.expire, vec![number(limit.into()), number(length(after))])
    }
}

impl Statement {
    fn new(doing: &'static str, text: &Arc<str>, arguments: Vec<Argument>) -> Self {
        Self { doing, text: text.clone(), arguments, repeatable: true }
    }
}

/// Never what is bound: tokens and answers.
impl std::fmt::Debug for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Argument(..)")
    }
}

fn first(claim: &Claim) -> Vec<Argument> {
    vec![
        bytes(claim.key.as_bytes()),
        bytes(claim.token.as_bytes()),
        bytes(claim.fingerprint.as_bytes()),
        number(length(claim.lease)),
        Argument::Number(claim.retention.map(length)),
    ]
}

/// The new state, how long the answer is kept and the record remembered, the answer.
fn ending(state: State, times: Option<(Duration, Duration)>, answer: Option<&Answer>) -> [Argument; 4] {
    [
        number(state as i64),
        Argument::Number(times.map(|(ttl, _)| length(ttl))),
        Argument::Number(times.map(|(_, remember)| length(remember))),
        Argument::Bytes(answer.map(|answer| answer.as_bytes().clone())),
    ]
}

fn bytes(of: &[u8]) -> Argument {
    Argument::Bytes(Some(Bytes::copy_from_slice(of)))
}

const fn number(of: i64) -> Argument {
    Argument::Number(Some(of))
}

/// As PostgreSQL reads a time-out. None is zero: that would be no time-out at all.
pub(super) fn milliseconds(duration: Duration) -> String {
    duration.as_millis().clamp(1, 2_147_483_647).to_string()
}

/// Microseconds, few enough that the clock and any two of them do not overflow: at most 30,000 years.
pub(super) fn length(duration: Duration) -> i64 {
    const MOST: i64 = 1_000_000_000_000_000_000;
    i64::try_from(micros(duration)).unwrap_or(MOST).min(MOST)
}
