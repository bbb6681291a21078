//! Records in slots, and a queue of what is due.
//!
//! The queue is a binary heap in which every record knows its place, so that a record that is gone leaves nothing
//! behind: claims that are released again must not pile up until the day they would have been dropped on.

use crate::{
    fingerprint::Fingerprint,
    key::StorageKey,
    record::Answer,
    store::{Fence, Token},
};

pub(super) struct Record {
    pub(super) key: StorageKey,
    pub(super) fingerprint: Fingerprint,
    /// Whose it is; nobody's once an operator has settled it.
    pub(super) token: Option<Token>,
    pub(super) fence: Fence,
    pub(super) attempt: u32,
    pub(super) state: State,
    /// Its place in the queue, or [`NOWHERE`].
    place: u32,
}

/// Times are microseconds of the store's clock.
pub(super) enum State {
    InFlight { lease_end: u64, forget: u64 },
    Completed { answer: Option<Answer>, answer_end: u64, forget: u64 },
    Unknown,
    Parked { note: Answer },
}

/// Every slot holds a record; that of a free slot is dead and holds no answer.
#[derive(Default)]
pub(super) struct Records {
    slots: Vec<Record>,
    free: Vec<u32>,
    queue: Vec<Due>,
    /// When the first of the queue is due, kept here so that a step that finds nothing due need not look into the queue, which
    /// is far from the processor.
    first_due: Option<u64>,
}

/// When something of the record in this slot is past its time.
#[derive(Clone, Copy)]
pub(super) struct Due {
    at: u64,
    slot: u32,
}

/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;

const NOWHERE: u32 = u32::MAX;

/// Children of a place in the queue. Four lie side by side in one cache line, and make the way down half as long as two.
const ARITY: usize = 4;

impl Record {
    pub(super) fn new(key: StorageKey, fingerprint: Fingerprint, token: Token, fence: Fence, state: State) -> Self {
        Self { key, fingerprint, token: Some(token), fence, attempt: 1, state, place: NOWHERE }
    }

    pub(super) fn is_past_its_time(&self, now: u64) -> bool {
        match self.state {
            State::InFlight { forget, .. } | State::Completed { forget, .. } => forget <= now,
            State::Unknown | State::Parked { .. } => false,
        }
    }

    /// Whether it is for a verdict to settle: parked, unknown, or as good as that, its lease out and kept until it is settled.
    pub(super) fn needs_a_verdict(&self, now: u64) -> bool {
        match self.state {
            State::Unknown | State::Parked { .. } => true,
            State::InFlight { lease_end, forget: NEVER } => self.token.is_some() && lease_end <= now,
            _ => false,
        }
    }

    /// The bytes of its answer.
    pub(super) fn answer_bytes(&self) -> usize {
        match &self.state {
            State::Completed { answer: Some(answer), .. } | State::Parked { note: answer } => answer.len(),
            _ => 0,
        }
    }

    /// When there is something to drop: first an answer, then the record.
    fn due(&self) -> u64 {
        match self.state {
            State::InFlight { forget, .. } => forget,
            State::Completed { answer: Some(_), answer_end, forget } => answer_end.min(forget),
            State::Completed { answer: None, forget, .. } => forget,
            State::Unknown | State::Parked { .. } => NEVER,
        }
    }
}

impl Records {
    pub(super) fn insert(&mut self, record: Record) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = record;
                slot
            }
            None => {
                self.slots.push(record);
                (self.slots.len() - 1) as u32
            }
        };
        self.requeue(slot);
        slot
    }

    pub(super) fn at(&mut self, slot: u32) -> &mut Record {
        &mut self.slots[slot as usize]
    }

    pub(super) fn key(&self, slot: u32) -> &StorageKey {
        &self.slots[slot as usize].key
    }

    /// The records in these slots.
    pub(super) fn alive(&self, slots: impl Iterator<Item = u32>) -> impl Iterator<Item = &Record> {
        slots.map(|slot| &self.slots[slot as usize])
    }

    /// Frees the slot and what its record holds.
    pub(super) fn remove(&mut self, slot: u32) {
        self.at(slot).state = State::Unknown;
        self.requeue(slot);
        self.free.push(slot);
    }

    /// A slot of which something is past its time.
    pub(super) fn first_due(&self, now: u64) -> Option<u32> {
        self.first_due.filter(|at| *at <= now).and_then(|_| self.queue.first()).map(|due| due.slot)
    }

    /// Moves the record to its place in the queue, after its state has changed.
    pub(super) fn requeue(&mut self, slot: u32) {
        let record = &self.slots[slot as usize];
        let due = Due { at: record.due(), slot };
        let place = record.place as usize;
        if record.place == NOWHERE {
            if due.at != NEVER {
                self.queue.push(due);
                self.sift_up(self.queue.len() - 1);
            }
            return;
        }
        if due.at != NEVER {
            self.queue[place] = due;
            self.sift(place);
            return;
        }
        self.slots[slot as usize].place = NOWHERE;
        self.queue.swap_remove(place);
        if place < self.queue.len() {
            self.sift(place);
        } else if place == 0 {
            self.first_due = None;
        }
    }

    fn sift(&mut self, place: usize) {
        if self.sift_up(place) == place {
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        let due = self.queue[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.queue[parent].at <= due.at {
                break;
            }
            self.put(self.queue[parent], place);
            place = parent;
        }
        self.put(due, place);
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        let due = self.queue[place];
        loop {
            let first = ARITY * place + 1;
            let children = self.queue.iter().enumerate().skip(first).take(ARITY);
            match children.min_by_key(|(_, child)| child.at) {
                Some((at, child)) if child.at < due.at => {
                    self.put(*child, place);
                    place = at;
                }
                _ => break,
            }
        }
        self.put(due, place);
    }

    fn put(&mut self, due: Due, place: usize) {
        self.queue[place] = due;
        self.slots[due.slot as usize].place = place as u32;
        if place == 0 {
            self.first_due = Some(due.at);
        }
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.first_due, self.queue.first().map(|due| due.at));
        for (place, due) in self.queue.iter().enumerate() {
            let record = &self.slots[due.slot as usize];
            assert_eq!((record.place as usize, record.due()), (place, due.at));
            assert!(place == 0 || self.queue[(place - 1) / ARITY].at <= due.at);
        }
        let queued = self.slots.iter().filter(|record| record.place != NOWHERE).count();
        assert_eq!(queued, self.queue.len());
        assert!(self.slots.iter().all(|record| (record.due() == NEVER) == (record.place == NOWHERE)));
    }
}
