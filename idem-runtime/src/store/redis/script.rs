//! The scripts, and the commands that call them.

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

/// One step on one key, ready to be sent and to be sent again.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    on: On,
    /// A script by its digest, or a command of the server's own.
    pub(super) command: Cmd,
}

/// Which key it is a step on.
#[derive(Debug)]
enum On {
    Record(StorageKey),
    /// The list of parked records, in this slot.
    List(u16),
}

/// Which step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Claim,
    Renew,
    Complete,
    Release,
    Resolve,
    /// A command of the server's own, on one key.
    Plain,
    /// Adds an entry to the list of parked records.
    Enlist,
    /// Reads entries of the list.
    List,
    /// Drops entries of the list.
    Unlist,
}

/// A script that begins by reading a record.
///
/// `allow-oom`: an effect that happened is recorded even at the memory limit. Claims are what is refused there.
macro_rules! on_stored {
    ($file:literal) => {
        LazyLock::new(|| {
            Script::new(concat!("#!lua flags=allow-oom\n", include_str!("stored.lua"), include_str!($file)))
        })
    };
}

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static RENEW: LazyLock<Script> = on_stored!("renew.lua");
static COMPLETE: LazyLock<Script> = on_stored!("complete.lua");
static RELEASE: LazyLock<Script> = on_stored!("release.lua");
static RESOLVE: LazyLock<Script> = on_stored!("resolve.lua");
static ENLIST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("enlist.lua")));

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
                step.command.arg(&record::head(record::State::Parked)[..]).arg(0).arg(0);
            }
        }
        step.answer(answer);
        step
    }

    pub(super) fn read(prefix: &str, key: &StorageKey) -> Self {
        let mut command = redis::cmd("GET");
        record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
        Self::plain(key, command)
    }

    /// A command of the server's own that is sent to whoever has the record of `key`.
    pub(super) fn plain(key: &StorageKey, command: Cmd) -> Self {
        Self { kind: Kind::Plain, on: On::Record(*key), command }
    }

    pub(super) fn enlist(prefix: &str, entry: &[u8]) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*ENLIST.digest).arg(1).arg(&list).arg(entry);
        Self { kind: Kind::Enlist, on: On::List(record::slot_of(list.as_bytes())), command }
    }

    /// At most `limit` entries from this lower bound on.
    pub(super) fn list(prefix: &str, from: &[u8], limit: usize) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(&list).arg(from).arg("+").arg("LIMIT").arg(0).arg(limit);
        Self { kind: Kind::List, on: On::List(record::slot_of(list.as_bytes())), command }
    }

    pub(super) fn unlist(prefix: &str, entries: &[Vec<u8>]) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("ZREM");
        command.arg(&list).arg(entries);
        Self { kind: Kind::Unlist, on: On::List(record::slot_of(list.as_bytes())), command }
    }

    pub(super) fn is_on_a_record(&self) -> bool {
        matches!(self.on, On::Record(_))
    }

    /// The slot of a Cluster that its key lies in.
    pub(super) fn slot(&self) -> u16 {
        match &self.on {
            On::Record(key) => record::slot(key),
            On::List(slot) => *slot,
        }
    }

    /// The same step with the script's source: a server that did not know the digest knows it afterwards.
    pub(super) fn with_source(&self) -> Cmd {
        let Some(script) = self.kind.script() else { return self.command.clone() };
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script.source);
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
        command.arg("EVALSHA").arg(kind.script().map_or("", |script| &*script.digest)).arg(1);
        record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
        Self { kind, on: On::Record(*key), command }
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
    const SCRIPTS: [Self; 6] = [Self::Claim, Self::Renew, Self::Complete, Self::Release, Self::Resolve, Self::Enlist];

    /// The word for it in errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Resolve => "resolve",
            Self::Enlist => "park",
            Self::Plain => "read",
            Self::List | Self::Unlist => "list parked records",
        }
    }

    /// The commands that make every script known to a server.
    pub(super) fn load_scripts() -> redis::Pipeline {
        let mut load = redis::pipe();
        for script in Self::SCRIPTS.into_iter().filter_map(Self::script) {
            load.cmd("SCRIPT").arg("LOAD").arg(script.source);
        }
        load
    }

    fn script(self) -> Option<&'static Script> {
        match self {
            Self::Claim => Some(&CLAIM),
            Self::Renew => Some(&RENEW),
            Self::Complete => Some(&COMPLETE),
            Self::Release => Some(&RELEASE),
            Self::Resolve => Some(&RESOLVE),
            Self::Enlist => Some(&ENLIST),
            Self::Plain | Self::List | Self::Unlist => None,
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
