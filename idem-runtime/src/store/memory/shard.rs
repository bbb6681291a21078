//! One shard: the steps of the protocol over its records, each under one lock.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use hashbrown::HashTable;

use super::{
    Room,
    records::{Due, NEVER, Record, Records, State},
};
use crate::{
    clock::micros,
    key::StorageKey,
    record::Answer,
    store::{
        Abandoned, Claim, Claimed, Complete, Fence, Forgotten, Outcome, Ownership, ParkedRecord, Release, Renew,
        Resolve, Resolved, Verdict,
    },
};

pub(super) struct Shard {
    hash: KeyHash,
    index: HashTable<Line>,
    records: Records,
    /// The largest fence given here. The clock alone would not do: a key can be released and claimed again
    /// within one microsecond.
    last_fence: Option<Fence>,
}

/// Where a record lies. Its key is only there: the index stays small, so that most of it stays near the processor.
#[derive(Clone, Copy)]
struct Line {
    tag: Tag,
    slot: u32,
}

/// There is no room for what the step would keep; it was not taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full;

/// What a record takes besides its answer: its slot, its lines of the index and the queue, and as much again for
/// what these grow ahead.
pub(super) const RECORD_BYTES: usize = 2 * (size_of::<Record>() + size_of::<Line>() + size_of::<Due>());

/// How much past its time each claim drops: more than a claim adds, so that the dead become fewer.
const DROPS_PER_CLAIM: usize = 4;

impl Shard {
    pub(super) fn new(hash: KeyHash) -> Self {
        Self { hash, index: HashTable::new(), records: Records::default(), last_fence: None }
    }

    pub(super) fn claim(&mut self, claim: &Claim, now: u64, room: &Room) -> Result<Claimed, Full> {
        for _ in 0..DROPS_PER_CLAIM {
            if !self.drop_one_past_its_time(now, room) {
                break;
            }
        }
        let Some(slot) = self.find(&claim.key, now, room) else {
            if !room.take_record() {
                return Err(Full);
            }
            let fence = next_fence(&mut self.last_fence, None, now);
            let state = in_flight(now, claim.lease, claim.retention);
            let slot = self.records.insert(Record::new(claim.key, claim.fingerprint, claim.token, fence, state));
            let tag = self.hash.tag(&claim.key);
            self.index.insert_unique(tag.hash(), Line { tag, slot }, |line| line.tag.hash());
            return Ok(Claimed::Won { fence, attempt: 1 });
        };
        let record = self.records.at(slot);
        if record.fingerprint != claim.fingerprint {
            return Ok(Claimed::Mismatch);
        }
        match &record.state {
            State::InFlight { .. } if record.token == Some(claim.token) => {}
            State::InFlight { lease_end, .. } if now < *lease_end && record.token.is_some() => {
                return Ok(Claimed::Busy { retry_after: Duration::from_micros(lease_end - now) });
            }
            // Nobody's: released by an owner that remembers its attempt.
            State::InFlight { forget, .. }
                if record.token.is_none() || (claim.abandoned == Abandoned::TakeOver && *forget != NEVER) =>
            {
                record.fence = next_fence(&mut self.last_fence, Some(record.fence), now);
                record.attempt = record.attempt.saturating_add(1);
                record.token = Some(claim.token);
            }
            State::InFlight { .. } => {
                record.state = State::Unknown;
                let unknown = Claimed::Unknown { fence: record.fence, attempt: record.attempt };
                self.records.requeue(slot);
                return Ok(unknown);
            }
            State::Completed { answer, answer_end, .. } => {
                return Ok(Claimed::Completed { answer: answer.as_ref().filter(|_| now < *answer_end).cloned() });
            }
            State::Unknown => return Ok(Claimed::Unknown { fence: record.fence, attempt: record.attempt }),
            State::Parked { note } => {
                return Ok(Claimed::Parked { note: note.clone(), fence: record.fence, attempt: record.attempt });
            }
        }
        record.state = in_flight(now, claim.lease, claim.retention);
        let won = Claimed::Won { fence: record.fence, attempt: record.attempt };
        self.records.requeue(slot);
        Ok(won)
    }

    pub(super) fn renew(&mut self, renew: &Renew, now: u64, room: &Room) -> Ownership {
        let Some(slot) = self.find(&renew.key, now, room) else { return Ownership::Lost };
        let record = self.records.at(slot);
        if record.token != Some(renew.token) || !matches!(record.state, State::InFlight { .. }) {
            return Ownership::Lost;
        }
        record.state = in_flight(now, renew.lease, renew.retention);
        self.records.requeue(slot);
        Ownership::Held
    }

    pub(super) fn complete(&mut self, complete: &Complete, now: u64, room: &Room) -> Result<Ownership, Full> {
        let Some(slot) = self.find(&complete.key, now, room) else { return Ok(Ownership::Lost) };
        let record = self.records.at(slot);
        if record.token != Some(complete.token) {
            return Ok(Ownership::Lost);
        }
        if let State::Completed { .. } | State::Parked { .. } = record.state {
            return Ok(Ownership::Held);
        }
        let answer = match &complete.outcome {
            Outcome::Answer(answer) => Some(answer),
            Outcome::Tombstone => None,
            Outcome::Unknown => {
                record.state = State::Unknown;
                self.records.requeue(slot);
                return Ok(Ownership::Held);
            }
            Outcome::Parked(note) => {
                record.state = parked(note, room)?;
                self.records.requeue(slot);
                return Ok(Ownership::Held);
            }
        };
        record.state = completed(answer, now, complete.ttl, complete.remember, room)?;
        self.records.requeue(slot);
        Ok(Ownership::Held)
    }

    pub(super) fn release(&mut self, release: &Release, now: u64, room: &Room) -> Ownership {
        let Some(slot) = self.find(&release.key, now, room) else { return Ownership::Lost };
        let record = self.records.at(slot);
        if record.token != Some(release.token) || matches!(record.state, State::Completed { .. } | State::Parked { .. })
        {
            return Ownership::Lost;
        }
        match release.remember {
            None => self.remove(slot, room),
            Some(remember) => {
                record.token = None;
                record.state = in_flight(now, Duration::ZERO, Some(remember));
                self.records.requeue(slot);
            }
        }
        Ownership::Held
    }

    pub(super) fn resolve(&mut self, resolve: &Resolve, now: u64, room: &Room) -> Result<Resolved, Full> {
        let Some(slot) = self.find(&resolve.key, now, room) else { return Ok(Resolved::NotUnknown) };
        let record = self.records.at(slot);
        let meant = resolve.fence.is_none_or(|fence| fence == record.fence);
        if !meant || !record.needs_a_verdict(now) {
            return Ok(Resolved::NotUnknown);
        }
        let next = match &resolve.verdict {
            Verdict::NotExecuted => {
                self.remove(slot, room);
                return Ok(Resolved::Applied);
            }
            Verdict::Completed { answer, ttl, remember } => completed(answer.as_ref(), now, *ttl, *remember, room)?,
            Verdict::Parked(note) => parked(note, room)?,
        };
        room.give_bytes(record.answer_bytes());
        record.state = next;
        record.token = None;
        self.records.requeue(slot);
        Ok(Resolved::Applied)
    }

    pub(super) fn forget(&mut self, key: &StorageKey, now: u64, room: &Room) -> Forgotten {
        let Some(slot) = self.find(key, now, room) else { return Forgotten::Absent };
        let record = self.records.at(slot);
        match record.state {
            _ if record.needs_a_verdict(now) => Forgotten::Unknown,
            State::InFlight { .. } if record.token.is_some() => Forgotten::InFlight,
            _ => {
                self.remove(slot, room);
                Forgotten::Done
            }
        }
    }

    /// Every parked record of this shard.
    pub(super) fn parked(&self) -> impl Iterator<Item = ParkedRecord> {
        self.records.alive(self.index.iter().map(|line| line.slot)).filter_map(|record| match &record.state {
            State::Parked { note } => Some(ParkedRecord::new(record.key, note.clone(), record.fence, record.attempt)),
            _ => None,
        })
    }

    /// Drops one answer or one record past its time; `false`: there is none.
    pub(super) fn drop_one_past_its_time(&mut self, now: u64, room: &Room) -> bool {
        let Some(slot) = self.records.first_due(now) else { return false };
        let record = self.records.at(slot);
        if record.is_past_its_time(now) {
            self.remove(slot, room);
            return true;
        }
        room.give_bytes(record.answer_bytes());
        if let State::Completed { answer, .. } = &mut record.state {
            *answer = None;
        }
        self.records.requeue(slot);
        true
    }

    /// The slot of a record that is not past its time.
    fn find(&mut self, key: &StorageKey, now: u64, room: &Room) -> Option<u32> {
        let tag = self.hash.tag(key);
        let is_it = |line: &Line| line.tag == tag && self.records.key(line.slot) == key;
        let slot = self.index.find(tag.hash(), is_it)?.slot;
        if self.records.at(slot).is_past_its_time(now) {
            self.remove(slot, room);
            return None;
        }
        Some(slot)
    }

    fn remove(&mut self, slot: u32, room: &Room) {
        let record = self.records.at(slot);
        room.give_bytes(record.answer_bytes());
        room.give_record();
        let tag = self.hash.tag(&record.key);
        if let Ok(line) = self.index.find_entry(tag.hash(), |line| line.slot == slot) {
            line.remove();
        }
        self.records.remove(slot);
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> usize {
        self.records.check();
        self.index.len()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.records.slots()
    }
}

fn next_fence(last_here: &mut Option<Fence>, last: Option<Fence>, now: u64) -> Fence {
    let fence = Fence::after((*last_here).max(last), now);
    *last_here = Some(fence);
    fence
}

fn in_flight(now: u64, lease: Duration, retention: Option<Duration>) -> State {
    let lease_end = now.saturating_add(micros(lease));
    let forget = retention.map_or(NEVER, |retention| lease_end.saturating_add(micros(retention)));
    State::InFlight { lease_end, forget }
}

fn completed(answer: Option<&Answer>, now: u64, ttl: Duration, remember: Duration, room: &Room) -> Result<State, Full> {
    if !room.take_bytes(answer.map_or(0, Answer::len)) {
        return Err(Full);
    }
    let (answer_end, forget) = (now.saturating_add(micros(ttl)), now.saturating_add(micros(remember)));
    Ok(State::Completed { answer: answer.map(compact), answer_end, forget: forget.max(answer_end) })
}

/// A small answer gets memory of its own size: what it was sealed in has room to spare, and serves the next one.
fn compact(answer: &Answer) -> Answer {
    match answer.len() {
        0..=1024 => Answer::from_bytes(Bytes::copy_from_slice(answer.as_bytes())),
        _ => answer.clone(),
    }
}

fn parked(note: &Answer, room: &Room) -> Result<State, Full> {
    if room.take_bytes(note.len()) { Ok(State::Parked { note: note.clone() }) } else { Err(Full) }
}

/// Hashes storage keys, which are evenly spread already, with a secret: a client that searches for keys which
/// meet in one place of the table must not find them.
#[derive(Clone, Copy)]
pub(super) struct KeyHash {
    secret: [u64; 2],
}

/// The part of a key's hash that an index is built on. It is kept there, so that a growing index need not look for its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u32);

impl KeyHash {
    pub(super) fn random() -> Self {
        Self { secret: [(); 2].map(|()| RandomState::new().build_hasher().finish()) }
    }

    /// Which of `shards` (a power of two) the key belongs to, by bits that the index of a shard does not use.
    pub(super) fn shard(&self, key: &StorageKey, shards: usize) -> usize {
        (self.of(key) >> 40) as usize & (shards - 1)
    }

    fn tag(&self, key: &StorageKey) -> Tag {
        Tag(self.of(key) as u32)
    }

    fn of(&self, key: &StorageKey) -> u64 {
        let [first, second, ..] = key.as_bytes().as_chunks().0 else { unreachable!("a key has 32 bytes") };
        let words = [first, second].map(|bytes| u64::from_le_bytes(*bytes));
        let product = u128::from(words[0] ^ self.secret[0]) * u128::from(words[1] ^ self.secret[1]);
        (product as u64) ^ (product >> 64) as u64
    }
}

impl Tag {
    /// As the table wants it: it looks at the lowest and at the highest bits.
    fn hash(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}
