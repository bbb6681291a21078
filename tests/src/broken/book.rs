//! What a broken store knows of its records, beside the store that is right.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use idem_runtime::{
    Answer, Fingerprint, StorageKey,
    store::{Claim, Claimed, Complete, Fence, Outcome, ParkedRecord, Release, Renew, Resolve, Token, Verdict},
};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing, or past its time.
    Absent,
    /// In flight, lease alive.
    InFlight,
    /// In flight, lease out.
    Abandoned,
    /// Completed with an answer.
    Completed,
    /// Completed without.
    Tombstone,
    /// Unknown.
    Unknown,
    /// In flight without an owner: released, with its attempt remembered.
    Released,
    /// Parked.
    Parked,
}

/// What made a record what it is, where that is more than one step can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Any other step.
    Other,
    /// A claim among many.
    ManyClaims,
    /// A claim that found it abandoned, and made it unknown.
    MarkedUnknown,
}

/// One page for each key.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<StorageKey, Page>>);

/// What is known of one key.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// What the record was written as; its lease and its end say what it is now.
    state: When,
    pub(super) origin: Origin,
    pub(super) token: Token,
    pub(super) fingerprint: Fingerprint,
    pub(super) fence: Fence,
    pub(super) attempt: u32,
    pub(super) claimed_at: u64,
    pub(super) lease_end: u64,
    /// When the lease would have ended without its renewals.
    pub(super) unrenewed_end: Option<u64>,
    pub(super) retention: Option<Duration>,
    /// When the record is over.
    pub(super) end: u64,
    /// When an unknown or a parked record would be over, if its times counted.
    pub(super) unknown_end: u64,
    /// The answer, or the note of what is parked.
    pub(super) answer: Option<Answer>,
    /// As what it was parked, the last time.
    pub(super) parked: Option<ParkedRecord>,
    /// Whether a list that is kept beside the records has it.
    pub(super) is_listed: bool,
    pub(super) resolved: bool,
    /// Every token that ever won, with what it won.
    pub(super) owners: Vec<(Token, Fence, u32)>,
    /// What a claim is told, whatever the right store says.
    pub(super) overlay: Option<Claimed>,
    pub(super) damaged: bool,
    /// How often the record was made to disappear behind the right store's back.
    generation: u64,
}

impl Book {
    pub(super) fn page(&self, key: StorageKey) -> Page {
        self.write(key, |page| page.clone())
    }

    pub(super) fn write<T>(&self, key: StorageKey, write: impl FnOnce(&mut Page) -> T) -> T {
        write(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Every page, in the order of the keys.
    pub(super) fn pages(&self) -> BTreeMap<StorageKey, Page> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.iter().map(|(key, page)| (*key, page.clone())).collect()
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            state: When::Absent,
            origin: Origin::Other,
            token: Token::from_bytes([0; 16]),
            fingerprint: Fingerprint::from_bytes([0; 32]),
            fence: Fence::new(0),
            attempt: 0,
            claimed_at: 0,
            lease_end: 0,
            unrenewed_end: None,
            retention: None,
            end: u64::MAX,
            unknown_end: u64::MAX,
            answer: None,
            parked: None,
            is_listed: true,
            resolved: false,
            owners: Vec::new(),
            overlay: None,
            damaged: false,
            generation: 0,
        }
    }
}

impl Page {
    pub(super) fn when(&self, now: u64) -> When {
        match self.state {
            _ if self.end <= now => When::Absent,
            When::InFlight if self.lease_end <= now => When::Abandoned,
            state => state,
        }
    }

    /// Whether this token won the record and lost it since.
    pub(super) fn was_owned_by(&self, token: Token) -> bool {
        token != self.token && self.owners.iter().any(|(owner, ..)| *owner == token)
    }

    /// Makes the record disappear: from now on the right store is asked for a key that it has not seen.
    pub(super) fn forget(&mut self) {
        self.generation += 1;
        self.state = When::Absent;
        self.overlay = None;
        self.damaged = false;
    }

    /// The key that the right store is asked for.
    pub(super) fn inner_key(&self, key: StorageKey) -> StorageKey {
        let mut bytes = *key.as_bytes();
        for (byte, generation) in bytes.iter_mut().zip(self.generation.to_le_bytes()) {
            *byte ^= generation;
        }
        StorageKey::from_bytes(bytes)
    }

    pub(super) fn claimed(&mut self, claim: &Claim, claimed: &Claimed, now: u64) {
        match *claimed {
            Claimed::Won { fence, attempt } => {
                if self.state != When::InFlight || self.token != claim.token || fence != self.fence {
                    self.claimed_at = now;
                    self.owners.push((claim.token, fence, attempt));
                }
                self.state = When::InFlight;
                (self.token, self.fingerprint) = (claim.token, claim.fingerprint);
                (self.fence, self.attempt) = (fence, attempt);
                (self.answer, self.resolved) = (None, false);
                (self.origin, self.unrenewed_end) = (Origin::Other, None);
                self.leased(claim.lease, claim.retention, now);
            }
            Claimed::Unknown { .. } if self.state == When::InFlight => {
                self.unknown_end = std::mem::replace(&mut self.end, u64::MAX);
                self.state = When::Unknown;
                self.origin = Origin::MarkedUnknown;
            }
            _ => {}
        }
    }

    pub(super) fn renewed(&mut self, renew: &Renew, now: u64) {
        self.unrenewed_end = self.unrenewed_end.or(Some(self.lease_end));
        self.leased(renew.lease, renew.retention, now);
    }

    pub(super) fn completed(&mut self, key: StorageKey, complete: &Complete, now: u64) {
        if matches!(self.state, When::Completed | When::Tombstone | When::Parked) {
            return;
        }
        self.end = after(now, complete.remember);
        (self.state, self.answer) = match &complete.outcome {
            Outcome::Answer(answer) => (When::Completed, Some(answer.clone())),
            Outcome::Tombstone => (When::Tombstone, None),
            Outcome::Parked(note) => {
                self.unknown_end = self.end;
                return self.is_parked(key, note);
            }
            _ => {
                self.unknown_end = std::mem::replace(&mut self.end, u64::MAX);
                (When::Unknown, None)
            }
        };
    }

    pub(super) fn released(&mut self, release: &Release, now: u64) {
        self.state = When::Absent;
        if let Some(remember) = release.remember {
            self.state = When::Released;
            self.token = Token::from_bytes([0; 16]);
            self.end = after(now, remember);
        }
    }

    pub(super) fn forgotten(&mut self) {
        self.state = When::Absent;
    }

    /// Whether this token was the last that owned what is nobody's now.
    pub(super) fn was_released_by(&self, token: Token) -> bool {
        self.state == When::Released && self.owners.last().is_some_and(|(owner, ..)| *owner == token)
    }

    fn is_parked(&mut self, key: StorageKey, note: &Answer) {
        (self.state, self.end, self.answer) = (When::Parked, u64::MAX, Some(note.clone()));
        self.parked = Some(ParkedRecord::new(key, note.clone(), self.fence, self.attempt));
    }

    pub(super) fn resolved(&mut self, key: StorageKey, resolve: &Resolve, now: u64) {
        self.resolved = true;
        match &resolve.verdict {
            Verdict::Completed { answer, remember, .. } => {
                self.state = if answer.is_some() { When::Completed } else { When::Tombstone };
                self.end = after(now, *remember);
                self.answer.clone_from(answer);
            }
            Verdict::Parked(note) => self.is_parked(key, note),
            _ => self.state = When::Absent,
        }
    }

    fn leased(&mut self, lease: Duration, retention: Option<Duration>, now: u64) {
        self.lease_end = after(now, lease);
        self.retention = retention;
        self.end = retention.map_or(u64::MAX, |retention| after(self.lease_end, retention));
    }
}

pub(super) fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
