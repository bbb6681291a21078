//! What a step makes of the record it finds. No SQL, no driver, no lock: whoever calls holds the file's write lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::row::{Record, State};
use crate::{
    clock::{Clock, micros},
    key::StorageKey,
    record::Answer,
    store::{
        Abandoned, Claim, Claimed, Complete, Fence, Forgotten, Outcome, Ownership, Release, Renew, Resolve, Resolved,
        Token, Verdict,
    },
};

/// A step of the store.
pub(super) trait Step: Send + Sync + 'static {
    /// What it answers.
    type Done: Send + 'static;

    /// Whether it is taken by who owns the record, or settles it: of use though nobody waits for its answer.
    const BY_OWNER: bool = true;

    /// The step, if it is a renewal.
    fn renewal(&self) -> Option<Renew> {
        None
    }

    fn key(&self) -> &StorageKey;

    /// What becomes of the record if it is what the step mostly finds, so that it need not be read; `None`: it must be.
    fn guess(&self, time: &mut Time) -> Option<(Guess, Self::Done)>;

    /// What becomes of the record, and what is answered once that is committed.
    fn judge(&self, found: Found, time: &mut Time) -> (Change, Self::Done);
}

/// What becomes of a record that was not read, if it is as guessed. Then a look would have led to the same.
#[derive(Debug)]
pub(super) enum Guess {
    /// Nothing lies under the key: this is put there.
    Absent(Record),
    /// What lies there is in flight, alive, and this token's: its state becomes this one.
    InFlight(Token, State),
}

/// A step while it is taken: what it answers is not told before that is committed.
#[derive(Debug)]
pub(super) struct Pending<S: Step> {
    step: S,
    done: Option<S::Done>,
}

/// A [`Pending`] of any step.
pub(super) trait Take: Send {
    /// As [`Step::key`].
    fn key(&self) -> &StorageKey;

    /// As [`Step::guess`].
    fn guess(&mut self, time: &mut Time) -> Option<Guess>;

    /// As [`Step::judge`].
    fn judge(&mut self, found: Found, time: &mut Time) -> Change;
}

/// What lies under a key.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Nothing,
    Record(Record),
    Unreadable,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) enum Change {
    None,
    Put(Record),
    Remove,
}

/// The store's clock: this host's, or the latest time that any process wrote into the file, whichever is later.
///
/// So time does not run back when the wall clock is set back and the service restarted, and processes that were
/// started before and after agree.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    ahead: AtomicU64,
    /// The largest fence that was seen or given here.
    last_fence: AtomicU64,
}

/// The moment of one step, and the fences given so far.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) now: u64,
    /// The largest of the whole file.
    pub(super) last_fence: Fence,
}

impl<S: Step> Pending<S> {
    pub(super) const fn new(step: S) -> Self {
        Self { step, done: None }
    }

    /// As [`Step::renewal`].
    pub(super) fn renewal(&self) -> Option<Renew> {
        self.step.renewal()
    }

    /// What the step answers; `None`: it was never judged.
    pub(super) fn into_done(self) -> Option<S::Done> {
        self.done
    }
}

impl<S: Step> Take for Pending<S> {
    fn key(&self) -> &StorageKey {
        self.step.key()
    }

    fn guess(&mut self, time: &mut Time) -> Option<Guess> {
        let (guess, done) = self.step.guess(time)?;
        self.done = Some(done);
        Some(guess)
    }

    fn judge(&mut self, found: Found, time: &mut Time) -> Change {
        let (change, done) = self.step.judge(found, time);
        self.done = Some(done);
        change
    }
}

impl Timeline {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead: AtomicU64::new(0), last_fence: AtomicU64::new(0) }
    }

    /// Now, in a file whose last fence is this one.
    pub(super) fn at(&self, last_fence: Fence) -> Time {
        self.note(last_fence);
        let clock = self.clock.now();
        let behind = last_fence.get().saturating_sub(clock);
        let ahead = self.ahead.fetch_max(behind, Ordering::Relaxed).max(behind);
        Time { now: clock.saturating_add(ahead), last_fence }
    }

    /// Now, if no other process has given a fence since one was seen here last.
    pub(super) fn guess(&self) -> Time {
        self.at(Fence::new(self.last_fence.load(Ordering::Relaxed)))
    }

    /// This fence was seen or given.
    pub(super) fn note(&self, fence: Fence) {
        self.last_fence.fetch_max(fence.get(), Ordering::Relaxed);
    }
}

impl Time {
    fn next_fence(&mut self) -> Fence {
        self.last_fence = Fence::after(Some(self.last_fence), self.now);
        self.last_fence
    }

    fn after(&self, duration: Duration) -> u64 {
        self.now.saturating_add(micros(duration))
    }

    fn in_flight(&self, lease: Duration, retention: Option<Duration>) -> State {
        let lease_end = self.after(lease);
        State::InFlight { lease_end, forget: retention.map(|retention| lease_end.saturating_add(micros(retention))) }
    }

    fn completed(&self, answer: Option<&Answer>, ttl: Duration, remember: Duration) -> State {
        let (until, forget) = (self.after(ttl), self.after(remember.max(ttl)));
        match answer {
            Some(answer) => State::Answered { answer: answer.clone(), until, forget },
            None => State::Tombstone { forget },
        }
    }
}

impl Found {
    /// The record, if it can be read and is not past its time.
    fn alive(self, now: u64) -> Option<Record> {
        match self {
            Self::Record(record) if !record.is_past_its_time(now) => Some(record),
            _ => None,
        }
    }

    /// The answer that is still kept; `None`: there is none.
    #[cfg(feature = "redis")]
    pub(super) fn kept(self, key: StorageKey, time: &Time) -> Option<crate::store::tiered::Kept> {
        match self.alive(time.now)? {
            Record { fingerprint, state: State::Answered { answer, until, .. }, .. } if time.now < until => {
                let left = Duration::from_micros(until - time.now);
                Some(crate::store::tiered::Kept::new(key, fingerprint, answer, left))
            }
            _ => None,
        }
    }
}

impl Step for Claim {
    type Done = Claimed;

    const BY_OWNER: bool = false;

    fn key(&self) -> &StorageKey {
        &self.key
    }

    fn guess(&self, time: &mut Time) -> Option<(Guess, Claimed)> {
        match self.judge(Found::Nothing, time) {
            (Change::Put(record), won) => Some((Guess::Absent(record), won)),
            _ => None,
        }
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Claimed) {
        if let Found::Unreadable = found {
            return (Change::None, Claimed::Unreadable);
        }
        let Some(mut record) = found.alive(time.now) else {
            let (fence, attempt) = (time.next_fence(), 1);
            let state = time.in_flight(self.lease, self.retention);
            let record = Record { fingerprint: self.fingerprint, token: Some(self.token), fence, attempt, state };
            return (Change::Put(record), Claimed::Won { fence, attempt });
        };
        if record.fingerprint != self.fingerprint {
            return (Change::None, Claimed::Mismatch);
        }
        let (fence, attempt) = (record.fence, record.attempt);
        match record.state {
            State::InFlight { .. } if record.token == Some(self.token) => {}
            State::InFlight { lease_end, .. } if record.token.is_some() && time.now < lease_end => {
                let retry_after = Duration::from_micros(lease_end - time.now);
                return (Change::None, Claimed::Busy { retry_after });
            }
            // Nobody's: released by an owner that remembers its attempt.
            State::InFlight { forget, .. }
                if record.token.is_none() || (self.abandoned == Abandoned::TakeOver && forget.is_some()) =>
            {
                time.last_fence = time.last_fence.max(record.fence);
                record.token = Some(self.token);
                record.fence = time.next_fence();
                record.attempt = attempt.saturating_add(1);
            }
            State::InFlight { .. } => {
                record.state = State::Unknown;
                return (Change::Put(record), Claimed::Unknown { fence, attempt });
            }
            State::Answered { answer, until, .. } => {
                return (Change::None, Claimed::Completed { answer: Some(answer).filter(|_| time.now < until) });
            }
            State::Tombstone { .. } => return (Change::None, Claimed::Completed { answer: None }),
            State::Unknown => return (Change::None, Claimed::Unknown { fence, attempt }),
            State::Parked { note } => return (Change::None, Claimed::Parked { note, fence, attempt }),
        }
        record.state = time.in_flight(self.lease, self.retention);
        let won = Claimed::Won { fence: record.fence, attempt: record.attempt };
        (Change::Put(record), won)
    }
}

impl Step for Renew {
    type Done = Ownership;

    fn renewal(&self) -> Option<Renew> {
        Some(*self)
    }

    fn key(&self) -> &StorageKey {
        &self.key
    }

    fn guess(&self, time: &mut Time) -> Option<(Guess, Ownership)> {
        Some((Guess::InFlight(self.token, time.in_flight(self.lease, self.retention)), Ownership::Held))
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Ownership) {
        match found.alive(time.now) {
            Some(record) if record.token == Some(self.token) && matches!(record.state, State::InFlight { .. }) => {
                let state = time.in_flight(self.lease, self.retention);
                (Change::Put(Record { state, ..record }), Ownership::Held)
            }
            _ => (Change::None, Ownership::Lost),
        }
    }
}

impl Step for Complete {
    type Done = Ownership;

    fn key(&self) -> &StorageKey {
        &self.key
    }

    fn guess(&self, time: &mut Time) -> Option<(Guess, Ownership)> {
        Some((Guess::InFlight(self.token, self.state(time)), Ownership::Held))
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Ownership) {
        let record = match found.alive(time.now) {
            Some(record) if record.token == Some(self.token) => record,
            _ => return (Change::None, Ownership::Lost),
        };
        if !record.is_unsettled() {
            return (Change::None, Ownership::Held);
        }
        (Change::Put(Record { state: self.state(time), ..record }), Ownership::Held)
    }
}

impl Complete {
    /// Of a record that it settles.
    fn state(&self, time: &Time) -> State {
        match &self.outcome {
            Outcome::Answer(answer) => time.completed(Some(answer), self.ttl, self.remember),
            Outcome::Tombstone => time.completed(None, self.ttl, self.remember),
            Outcome::Unknown => State::Unknown,
            Outcome::Parked(note) => State::Parked { note: note.clone() },
        }
    }
}

impl Step for Release {
    type Done = Ownership;

    fn key(&self) -> &StorageKey {
        &self.key
    }

    fn guess(&self, _: &mut Time) -> Option<(Guess, Ownership)> {
        None
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Ownership) {
        let record = match found.alive(time.now) {
            Some(record) if record.token == Some(self.token) && record.is_unsettled() => record,
            _ => return (Change::None, Ownership::Lost),
        };
        let change = match self.remember {
            None => Change::Remove,
            Some(remember) => {
                let state = time.in_flight(Duration::ZERO, Some(remember));
                Change::Put(Record { token: None, state, ..record })
            }
        };
        (change, Ownership::Held)
    }
}

impl Step for Resolve {
    type Done = Resolved;

    fn key(&self) -> &StorageKey {
        &self.key
    }

    fn guess(&self, _: &mut Time) -> Option<(Guess, Resolved)> {
        None
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Resolved) {
        let meant =
            |record: &Record| self.fence.is_none_or(|fence| fence == record.fence) && record.needs_a_verdict(time.now);
        let Some(record) = found.alive(time.now).filter(meant) else { return (Change::None, Resolved::NotUnknown) };
        let state = match &self.verdict {
            Verdict::NotExecuted => return (Change::Remove, Resolved::Applied),
            Verdict::Completed { answer, ttl, remember } => time.completed(answer.as_ref(), *ttl, *remember),
            Verdict::Parked(note) => State::Parked { note: note.clone() },
        };
        (Change::Put(Record { token: None, state, ..record }), Resolved::Applied)
    }
}

/// What lies under this key is to be gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forget(pub(super) StorageKey);

impl Step for Forget {
    type Done = Forgotten;

    const BY_OWNER: bool = false;

    fn key(&self) -> &StorageKey {
        &self.0
    }

    fn guess(&self, _: &mut Time) -> Option<(Guess, Forgotten)> {
        None
    }

    fn judge(&self, found: Found, time: &mut Time) -> (Change, Forgotten) {
        if let Found::Unreadable = found {
            return (Change::Remove, Forgotten::Done);
        }
        let Some(record) = found.alive(time.now) else { return (Change::None, Forgotten::Absent) };
        match record.state {
            _ if record.needs_a_verdict(time.now) => (Change::None, Forgotten::Unknown),
            State::InFlight { .. } if record.token.is_some() => (Change::None, Forgotten::InFlight),
            _ => (Change::Remove, Forgotten::Done),
        }
    }
}

impl Record {
    /// Whether it is for a verdict to settle: parked, unknown, or as good as that, its lease out and kept until it is settled.
    fn needs_a_verdict(&self, now: u64) -> bool {
        match self.state {
            State::Unknown | State::Parked { .. } => true,
            State::InFlight { lease_end, forget: None } => self.token.is_some() && lease_end <= now,
            _ => false,
        }
    }

    /// Whether its owner may still settle it.
    fn is_unsettled(&self) -> bool {
        matches!(self.state, State::InFlight { .. } | State::Unknown)
    }
}
