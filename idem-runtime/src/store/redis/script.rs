//! The scripts, and the commands that call them.

use std::{sync::LazyLock, time::Duration};

use bytes::BufMut;
use redis::{Arg, Cmd, Pipeline, RedisWrite};

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
    pub(super) commands: Commands,
}

/// What a step asks of the server.
#[derive(Debug)]
pub(super) enum Commands {
    /// A script by its digest, or a command of the server's own.
    One(Cmd),
    /// In one write: the command that does it, and a question about what it did.
    WithQuestion(Pipeline),
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
    /// Of a key that has no record.
    FirstClaim,
    /// Of any key.
    Claim,
    Renew,
    Complete,
    Release,
    Resolve,
    Forget,
    /// A question that is answered by who would be given a claim.
    Ping,
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
macro_rules! on_stored {
    ($($first:literal,)? [$($file:literal),+]) => {
        LazyLock::new(|| Script::new(concat!($($first,)? include_str!("stored.lua"), $(include_str!($file)),+)))
    };
}

// Without a shebang: with one, a script is refused whole at the memory limit, or may write there. This one still replays,
// and claims nothing.
static CLAIM: LazyLock<Script> = on_stored!(["kept.lua", "claim.lua"]);
// `allow-oom`: an effect that happened is recorded even at the memory limit.
static RENEW: LazyLock<Script> = on_stored!("#!lua flags=allow-oom\n", ["renew.lua"]);
static COMPLETE: LazyLock<Script> = on_stored!("#!lua flags=allow-oom\n", ["complete.lua"]);
static RELEASE: LazyLock<Script> = on_stored!("#!lua flags=allow-oom\n", ["forget.lua", "release.lua"]);
static RESOLVE: LazyLock<Script> = on_stored!("#!lua flags=allow-oom\n", ["forget.lua", "kept.lua", "resolve.lua"]);
static FORGET: LazyLock<Script> = on_stored!("#!lua flags=allow-oom\n", ["forget.lua", "kept.lua", "erase.lua"]);
static ENLIST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("enlist.lua")));

/// A hundred years: the longest duration a script is given. A sum with the clock stays far below 2^53, where the
/// numbers of Lua begin to round.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Step {
    /// The claim of a key that has no record, without a script. Told when the key expires, [`record::first_claimed`] knows when
    /// it was made; where there is a record, it is told that.
    pub(super) fn first_claim(prefix: &str, claim: &Claim) -> Self {
        let kept = first_kept(claim);
        let record = record::first_claim(claim, kept, added(claim.lease));
        let mut set = on_key("SET", 6, prefix, &claim.key);
        set.arg(&record[..]).arg("NX").arg("GET").arg("PX").arg(kept);
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(set).add_command(on_key("PEXPIRETIME", 2, prefix, &claim.key));
        Self { kind: Kind::FirstClaim, on: On::Record(claim.key), commands: Commands::WithQuestion(commands) }
    }

    pub(super) fn claim(prefix: &str, claim: &Claim) -> Self {
        let mut owner = [0; 48];
        owner[..32].copy_from_slice(claim.fingerprint.as_bytes());
        owner[32..].copy_from_slice(claim.token.as_bytes());
        let mut command = call(Kind::Claim, prefix, &claim.key, 4, 0);
        command.arg(&owner[..]).arg(added(claim.lease)).arg(kept(claim.lease, claim.retention)).arg(
            match claim.abandoned {
                Abandoned::TakeOver => 0,
                Abandoned::MarkUnknown => 1,
            },
        );
        Self::on_record(Kind::Claim, &claim.key, command)
    }

    pub(super) fn renew(prefix: &str, renew: &Renew) -> Self {
        let mut command = call(Kind::Renew, prefix, &renew.key, 3, 0);
        command.arg(&renew.token.as_bytes()[..]).arg(added(renew.lease)).arg(kept(renew.lease, renew.retention));
        Self::on_record(Kind::Renew, &renew.key, command)
    }

    pub(super) fn complete(prefix: &str, complete: &Complete) -> Self {
        let (state, answer): (_, &[u8]) = match &complete.outcome {
            Outcome::Answer(answer) => (record::State::Answer, answer.as_bytes()),
            Outcome::Tombstone => (record::State::Tombstone, &[]),
            Outcome::Unknown => (record::State::Unknown, &[]),
            Outcome::Parked(note) => (record::State::Parked, note.as_bytes()),
        };
        let mut command = call(Kind::Complete, prefix, &complete.key, 5, answer.len());
        command.arg(&complete.token.as_bytes()[..]).arg(&record::head(state)[..]);
        match state {
            // For as long as nobody settles it.
            record::State::Unknown | record::State::Parked => {
                command.arg(0).arg(0);
            }
            _ => end(&mut command, complete.ttl, complete.remember),
        }
        put_answer(&mut command, answer);
        Self::on_record(Kind::Complete, &complete.key, command)
    }

    pub(super) fn release(prefix: &str, release: &Release) -> Self {
        let mut command = call(Kind::Release, prefix, &release.key, 2, 0);
        command.arg(&release.token.as_bytes()[..]);
        match release.remember {
            Some(remember) => command.arg(millis(remember)),
            None => command.arg(""),
        };
        Self::on_record(Kind::Release, &release.key, command)
    }

    pub(super) fn resolve(prefix: &str, resolve: &Resolve) -> Self {
        let answer: &[u8] = match &resolve.verdict {
            Verdict::Completed { answer: Some(answer), .. } | Verdict::Parked(answer) => answer.as_bytes(),
            Verdict::Completed { answer: None, .. } | Verdict::NotExecuted => &[],
        };
        let mut command = call(Kind::Resolve, prefix, &resolve.key, 5, answer.len());
        match resolve.fence {
            Some(fence) => command.arg(fence.get()),
            None => command.arg(""),
        };
        match &resolve.verdict {
            Verdict::Completed { answer, ttl, remember } => {
                let state = if answer.is_some() { record::State::Answer } else { record::State::Tombstone };
                command.arg(&record::head(state)[..]);
                end(&mut command, *ttl, *remember);
            }
            Verdict::NotExecuted => {
                command.arg("").arg("").arg(0);
            }
            Verdict::Parked(_) => {
                command.arg(&record::head(record::State::Parked)[..]).arg(0).arg(0);
            }
        }
        put_answer(&mut command, answer);
        Self::on_record(Kind::Resolve, &resolve.key, command)
    }

    pub(super) fn forget(prefix: &str, key: &StorageKey) -> Self {
        Self::on_record(Kind::Forget, key, call(Kind::Forget, prefix, key, 0, 0))
    }

    /// What a claim asks, of [a key that no operation has](record::nobodys). A server that is loading, lost its master, or serves no such slot, refuses as
    /// it would a claim; and so does one whose access list lets a first claim be written, and not be dated.
    pub(super) fn pings(prefix: &str, key: &StorageKey) -> [Self; 2] {
        ["GET", "PEXPIRETIME"].map(|name| Self::on_record(Kind::Ping, key, on_key(name, 2, prefix, key)))
    }

    /// Deletes what is no record of ours, but of another type: a record that somebody made meanwhile stays.
    pub(super) fn delete_foreign(prefix: &str, key: &StorageKey) -> Self {
        Self::plain(key, run(include_str!("foreign.lua"), prefix, key))
    }

    /// Deletes what was seen there: what somebody put in its place meanwhile stays.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn clear(prefix: &str, key: &StorageKey, seen: &[u8]) -> Self {
        let mut command = run(include_str!("clear.lua"), prefix, key);
        command.arg(seen);
        Self::plain(key, command)
    }

    pub(super) fn read(prefix: &str, key: &StorageKey) -> Self {
        Self::plain(key, on_key("GET", 2, prefix, key))
    }

    /// A command of the server's own that is sent to whoever has the record of `key`.
    pub(super) fn plain(key: &StorageKey, command: Cmd) -> Self {
        Self::on_record(Kind::Plain, key, command)
    }

    pub(super) fn enlist(prefix: &str, entry: &[u8]) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*ENLIST.digest).arg(1).arg(&list).arg(entry);
        Self { kind: Kind::Enlist, on: On::List(record::slot_of(list.as_bytes())), commands: Commands::One(command) }
    }

    /// At most `limit` entries from this lower bound on.
    pub(super) fn list(prefix: &str, from: &[u8], limit: usize) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(&list).arg(from).arg("+").arg("LIMIT").arg(0).arg(limit);
        Self { kind: Kind::List, on: On::List(record::slot_of(list.as_bytes())), commands: Commands::One(command) }
    }

    pub(super) fn unlist(prefix: &str, entries: &[Vec<u8>]) -> Self {
        let list = record::list_key(prefix);
        let mut command = redis::cmd("ZREM");
        command.arg(&list).arg(entries);
        Self { kind: Kind::Unlist, on: On::List(record::slot_of(list.as_bytes())), commands: Commands::One(command) }
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

    /// The command that does it, without a question.
    pub(super) fn command(&self) -> Cmd {
        match &self.commands {
            Commands::One(command) => command.clone(),
            Commands::WithQuestion(commands) => commands.cmd_iter().next().map_or_else(Cmd::new, Cmd::clone),
        }
    }

    /// The same with the script's source: a server that did not know the digest knows it afterwards.
    pub(super) fn with_source(&self) -> Cmd {
        let (Some(script), Commands::One(call)) = (self.kind.script(), &self.commands) else { return self.command() };
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script.source);
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }

    /// Whether a second time does no harm and tells the same.
    pub(super) fn is_repeatable(&self) -> bool {
        !matches!(self.kind, Kind::Resolve | Kind::Forget)
    }

    fn on_record(kind: Kind, key: &StorageKey, command: Cmd) -> Self {
        Self { kind, on: On::Record(*key), commands: Commands::One(command) }
    }
}

impl Kind {
    const SCRIPTS: [Self; 7] =
        [Self::Claim, Self::Renew, Self::Complete, Self::Release, Self::Resolve, Self::Forget, Self::Enlist];

    /// The word for it in errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FirstClaim | Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Resolve => "resolve",
            Self::Forget => "forget",
            Self::Ping => "ping",
            Self::Enlist => "park",
            Self::Plain => "read",
            Self::List | Self::Unlist => "list parked records",
        }
    }

    /// Whether it may make a record that was not there, or asks whether one may be made.
    pub(super) const fn claims(self) -> bool {
        matches!(self, Self::FirstClaim | Self::Claim | Self::Ping)
    }

    /// The commands that make every script known to a server.
    pub(super) fn load_scripts() -> Pipeline {
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
            Self::Forget => Some(&FORGET),
            Self::Enlist => Some(&ENLIST),
            Self::FirstClaim | Self::Ping | Self::Plain | Self::List | Self::Unlist => None,
        }
    }
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// A command of the server's own, of so many words.
fn on_key(name: &str, words: usize, prefix: &str, key: &StorageKey) -> Cmd {
    let mut command = Cmd::with_capacity(words, 32 * words);
    command.arg(name);
    record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
    command
}

/// A script, before its arguments.
fn call(kind: Kind, prefix: &str, key: &StorageKey, args: usize, extra: usize) -> Cmd {
    let mut command = Cmd::with_capacity(4 + args, 192 + extra);
    command.arg("EVALSHA").arg(kind.script().map_or("", |script| &*script.digest)).arg(1);
    record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
    command
}

/// A script that hardly anybody needs, and so no server is to know by its digest, before its arguments.
fn run(source: &str, prefix: &str, key: &StorageKey) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(source).arg(1);
    record::put_key(&mut command.bufmut_for_next_arg(record::key_length(prefix)), prefix, key);
    command
}

/// The answer as it ends a record: its length, its bytes.
fn put_answer(command: &mut Cmd, answer: &[u8]) {
    let mut end = command.bufmut_for_next_arg(4 + answer.len());
    // The driver would have to send four gigabytes; the server refuses half of one.
    end.put_u32(u32::try_from(answer.len()).unwrap_or(u32::MAX));
    end.put_slice(answer);
}

/// How long the answer and the record of a completed operation are kept.
fn end(command: &mut Cmd, ttl: Duration, remember: Duration) {
    // An answer that is kept as long as its record needs no time of its own, and the script no look at the clock.
    match ttl < remember {
        true => command.arg(added(ttl)),
        false => command.arg(""),
    };
    command.arg(millis(remember.max(ttl)));
}

/// What a script adds to its clock.
fn added(duration: Duration) -> u64 {
    micros(duration.min(LONGEST))
}

/// The expiry of a first claim, which is never none: it dates the claim.
pub(super) fn first_kept(claim: &Claim) -> u64 {
    millis(claim.retention.map_or(LONGEST, |retention| claim.lease.saturating_add(retention)))
}

/// The expiry of a record in flight; 0: none.
fn kept(lease: Duration, retention: Option<Duration>) -> u64 {
    retention.map_or(0, |retention| millis(lease.saturating_add(retention)))
}

/// An expiry, never shorter than asked for, never none.
fn millis(duration: Duration) -> u64 {
    micros(duration.min(LONGEST)).div_ceil(1000).max(1)
}
