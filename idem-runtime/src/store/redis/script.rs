//! The five scripts, and the commands that call them.

use std::{sync::LazyLock, time::Duration};

use bytes::BufMut;
use redis::{Arg, Cmd, RedisWrite};

use super::record;
use crate::{
    clock::micros,
    store::{Abandoned, Claim, Complete, Outcome, Release, Renew, Resolve, StorageKey, Verdict},
};

/// One atomic step, as the server runs it.
#[derive(Debug)]
pub(super) struct Script {
    source: &'static str,
    digest: String,
}

/// One step on one record, ready to be sent and to be sent again.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) key: StorageKey,
    /// The script by its digest.
    pub(super) command: Cmd,
}

/// Which step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Claim,
    Renew,
    Complete,
    Release,
    Resolve,
}

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));
static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("complete.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));
static RESOLVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("resolve.lua")));

/// A hundred years: the longest duration a script is given. A sum with the clock stays far below 2^53, where the
/// numbers of Lua begin to round.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Step {
    pub(super) fn claim(prefix: &str, claim: &Claim) -> Self {
        let mut owner = [0; 48];
        owner[..32].copy_from_slice(claim.fingerprint.as_bytes());
        owner[32..].copy_from_slice(claim.token.as_bytes());
        let mut step = Self::new(Kind::Claim, prefix, &claim.key, 4, 0);
        step.command.arg(&owner[..]).arg(added(claim.lease)).arg(kept(claim.lease, claim.retention)).arg(
            match claim.abandoned {
                Abandoned::TakeOver => 0,
                Abandoned::MarkUnknown => 1,
            },
        );
        step
    }

    pub(super) fn renew(prefix: &str, renew: &Renew) -> Self {
        let mut step = Self::new(Kind::Renew, prefix, &renew.key, 3, 0);
        step.command.arg(&renew.token.as_bytes()[..]).arg(added(renew.lease)).arg(kept(renew.lease, renew.retention));
        step
    }

    pub(super) fn complete(prefix: &str, complete: &Complete) -> Self {
        let (state, answer): (_, &[u8]) = match &complete.outcome {
            Outcome::Answer(answer) => (record::State::Answer, answer.as_bytes()),
            Outcome::Tombstone => (record::State::Tombstone, &[]),
            Outcome::Unknown => (record::State::Unknown, &[]),
            Outcome::Parked(note) => (record::State::Parked, note.as_bytes()),
        };
        let mut step = Self::new(Kind::Complete, prefix, &complete.key, 5, answer.len());
        step.command.arg(&complete.token.as_bytes()[..]).arg(&record::head(state)[..]);
        match state {
            // For as long as nobody settles it.
            record::State::Unknown | record::State::Parked => step.command.arg(0).arg(0),
            _ => step.end(complete.ttl, complete.remember),
        };
        step.answer(answer);
        step
    }

    pub(super) fn release(prefix: &str, release: &Release) -> Self {
        let mut step = Self::new(Kind::Release, prefix, &release.key, 2, 0);
        step.command.arg(&release.token.as_bytes()[..]);
        match release.remember {
            Some(remember) => step.command.arg(millis(remember)),
            None => step.command.arg(""),
        };
        step
    }

    pub(super) fn resolve(prefix: &str, resolve: &Resolve) -> Self {
        let answer: &[u8] = match &resolve.verdict {
            Verdict::Completed { answer: Some(answer), .. } | Verdict::Parked(answer) => answer.as_bytes(),
            Verdict::Completed { answer: None, .. } | Verdict::NotExecuted => &[],
        };
        let mut step = Self::new(Kind::Resolve, prefix, &resolve.key, 5, answer.len());
        match resolve.fence {
            Some(fence) => step.command.arg(&fence.get().to_be_bytes()[..]),
            None => step.command.arg(""),
        };
        match &resolve.verdict {
            Verdict::Completed { answer, ttl, remember } => {
                let state = if answer.is_some() { record::State::Answer } else { record::State::Tombstone };
                step.command.arg(&record::head(state)[..]);
                step.end(*ttl, *remember);
            }
            Verdict::NotExecuted => {
                step.command.arg("").arg("").arg(0);
            }
            Verdict::Parked(_) => {
                step.command.arg(&record::head(record::State::Parked)[..]).arg("").arg(0);
            }
        }
        step.answer(answer);
        step
    }

    /// The same step with the script's source: a server that did not know the digest knows it afterwards.
    pub(super) fn with_source(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(self.kind.script().source);
        for arg in self.command.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }

    /// Whether a second time does no harm and tells the same.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.kind, Kind::Resolve)
    }

    fn new(kind: Kind, prefix: &str, key: &StorageKey, args: usize, extra: usize) -> Self {
        let mut command = Cmd::with_capacity(4 + args, 192 + extra);
        command.arg("EVALSHA").arg(&*kind.script().digest).arg(1);
        record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
        Self { kind, key: *key, command }
    }

    /// The answer as it ends a record: its length, its bytes.
    fn answer(&mut self, answer: &[u8]) {
        let mut end = self.command.bufmut_for_next_arg(4 + answer.len());
        // The driver would have to send four gigabytes; the server refuses half of one.
        end.put_u32(u32::try_from(answer.len()).unwrap_or(u32::MAX));
        end.put_slice(answer);
    }

    /// How long the answer and the record of a completed operation are kept.
    fn end(&mut self, ttl: Duration, remember: Duration) -> &mut Cmd {
        // An answer that is kept as long as its record needs no time of its own, and the script no look at the clock.
        match ttl < remember {
            true => self.command.arg(added(ttl)),
            false => self.command.arg(""),
        };
        self.command.arg(millis(remember.max(ttl)))
    }
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Claim, Self::Renew, Self::Complete, Self::Release, Self::Resolve];

    /// The word for it in errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Resolve => "resolve",
        }
    }

    /// The command that makes the script known to a server.
    pub(super) fn load(self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("SCRIPT").arg("LOAD").arg(self.script().source);
        command
    }

    fn script(self) -> &'static Script {
        match self {
            Self::Claim => &CLAIM,
            Self::Renew => &RENEW,
            Self::Complete => &COMPLETE,
            Self::Release => &RELEASE,
            Self::Resolve => &RESOLVE,
        }
    }
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// What a script adds to its clock.
fn added(duration: Duration) -> u64 {
    micros(duration.min(LONGEST))
}

/// The expiry of a record in flight; 0: none.
fn kept(lease: Duration, retention: Option<Duration>) -> u64 {
    retention.map_or(0, |retention| millis(lease.saturating_add(retention)))
}

/// An expiry, never shorter than asked for, never none.
fn millis(duration: Duration) -> u64 {
    micros(duration.min(LONGEST)).div_ceil(1000).max(1)
}
