//! The leases that one thread has begun to hold, or a few where there are many.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::doubt::Doubt;
use crate::{
    key::StorageKey,
    store::{Renew, Token},
};

/// On cache lines of its own, the count of its handles too.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Table {
    slots: Mutex<Slots>,
    doubt: Arc<Doubt>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    /// Tells one tenant of the slot from the next.
    tenancy: u64,
    lease: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    renew: Renew,
    due: Instant,
    /// When it runs out, at the earliest, if it is not renewed.
    end: Instant,
    /// When what it is of was claimed, at the earliest; `None`: that has ended, and is to be recorded.
    since: Option<Instant>,
    /// How long after that it is renewed; `None`: as long as it is held.
    renew_for: Option<Duration>,
    standing: Standing,
    /// How often it was claimed again: what a renewal found that was asked for before does not count.
    claimed_again: u32,
}

/// What this process knows of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sure,
    /// Its last renewal failed, or its time was over before it could be renewed: it may have run out.
    Unsure,
    /// It did, and somebody else owned the operation.
    Lost,
    /// It was renewed for as long as it may be: this process does not answer for its key any more.
    LetGo,
}

/// One lease, renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    table: Arc<Table>,
    slot: usize,
}

/// A lease to be renewed, unless it was let go or its slot has got another tenant meanwhile.
pub(super) struct Tenant {
    table: Arc<Table>,
    place: Place,
    claimed_again: u32,
    pub(super) renew: Renew,
}

/// What a look at the tables has found.
#[derive(Default)]
pub(super) struct Due {
    pub(super) renewals: Vec<Tenant>,
    /// Renewed for as long as they may be.
    pub(super) let_go: Vec<StorageKey>,
}

/// Where a lease is.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    tenancy: u64,
}

impl Held {
    /// Of a lease that was granted, at the earliest, at `since`.
    pub(super) fn new(renew: Renew, since: Instant, renew_for: Option<Duration>) -> Self {
        let (due, end) = (since + renew.lease / 3, since + renew.lease);
        Self { renew, due, end, since: Some(since), renew_for, standing: Standing::Sure, claimed_again: 0 }
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    pub(super) const fn end(&self) -> Instant {
        self.end
    }

    fn renewed_until(&self) -> Option<Instant> {
        Some(self.since? + self.renew_for?)
    }

    fn is_of_another(&self, key: &StorageKey, token: Token) -> bool {
        self.is_of(key) && self.renew.token != token
    }

    /// One that was let go is of no key any more.
    fn is_of(&self, key: &StorageKey) -> bool {
        self.renew.key == *key && self.standing != Standing::LetGo
    }
}

impl Table {
    pub(super) fn new(doubt: Arc<Doubt>) -> Self {
        Self { slots: Mutex::default(), doubt }
    }

    /// Doubts every lease whose time is over, and tells when that of the first of the others is.
    pub(super) fn doubt_ends(&self, now: Instant) -> Option<Instant> {
        let mut slots = self.slots();
        let sure = slots.held().filter(|(_, held)| held.standing == Standing::Sure);
        let mut first = None;
        for (_, held) in sure {
            if held.end <= now {
                self.note(held, Standing::Unsure);
            } else {
                first = earlier(first, held.end);
            }
        }
        first
    }

    /// Doubts the leases of this key under another token, and tells the last of those. One that was let go may be taken over.
    pub(super) fn doubt_other(&self, key: &StorageKey, token: Token) -> Option<Token> {
        let mut other = None;
        for (_, held) in self.slots().held().filter(|(_, held)| held.is_of_another(key, token)) {
            if held.standing == Standing::Sure {
                self.note(held, Standing::Unsure);
            }
            other = Some(held.renew.token);
        }
        other
    }

    /// Adds every lease that is due, put off by a third of its time, and every one that was renewed for long enough. Tells when to look
    /// again.
    pub(super) fn take_due(self: &Arc<Self>, now: Instant, due: &mut Due) -> Option<Instant> {
        let mut slots = self.slots();
        let mut next_look = None;
        for (place, held) in slots.held().filter(|(_, held)| held.standing != Standing::LetGo) {
            if let Some(until) = held.renewed_until() {
                if until <= now {
                    self.note(held, Standing::LetGo);
                    due.let_go.push(held.renew.key);
                    continue;
                }
                next_look = earlier(next_look, until);
            }
            if held.standing == Standing::Lost {
                continue;
            }
            if held.due <= now {
                held.due = now + held.renew.lease / 3;
                let Held { claimed_again, renew, .. } = *held;
                due.renewals.push(Tenant { table: self.clone(), place, claimed_again, renew });
            }
            next_look = earlier(next_look, held.due);
        }
        next_look
    }

    /// The lease of this token is its own again, and to be renewed at once; `false`: there is none here.
    pub(super) fn claimed_again(&self, key: &StorageKey, token: Token, now: Instant) -> bool {
        let mut slots = self.slots();
        let mut leases = slots.held().map(|(_, held)| held);
        let lease = leases.find(|held| held.is_of(key) && held.renew.token == token);
        let Some(held) = lease else { return false };
        held.claimed_again += 1;
        held.due = now;
        self.note(held, Standing::Unsure);
        true
    }

    /// When the first of those that still run was claimed.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.slots().held().filter_map(|(_, held)| held.since).min()
    }

    fn change(&self, place: Place, change: impl FnOnce(&mut Held) -> Standing) -> bool {
        let mut slots = self.slots();
        let tenant = slots.slots.get_mut(place.slot).filter(|slot| slot.tenancy == place.tenancy);
        let held = tenant.and_then(|slot| slot.lease.as_mut());
        let Some(held) = held.filter(|held| held.standing != Standing::LetGo) else { return false };
        let standing = change(held);
        self.note(held, standing);
        true
    }

    fn note(&self, held: &mut Held, standing: Standing) {
        let key = held.renew.key;
        match (std::mem::replace(&mut held.standing, standing), standing) {
            (Standing::Sure, Standing::Unsure | Standing::Lost) => self.doubt.begin(key),
            (Standing::Unsure | Standing::Lost, Standing::Sure | Standing::LetGo) => self.doubt.end(&key),
            _ => {}
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn insert(&mut self, held: Held) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { tenancy: 0, lease: None });
            self.slots.len() - 1
        });
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.lease = Some(held);
        }
        slot
    }

    fn held(&mut self) -> impl Iterator<Item = (Place, &mut Held)> {
        self.slots.iter_mut().enumerate().filter_map(|(at, slot)| {
            let place = Place { slot: at, tenancy: slot.tenancy };
            slot.lease.as_mut().map(|held| (place, held))
        })
    }
}

impl Tenant {
    /// A renewal has come, and the lease ends then; `false`: it is held no more.
    pub(super) fn renewed(&self, end: Instant) -> bool {
        self.table.change(self.place, |held| {
            held.end = end;
            Standing::Sure
        })
    }

    /// Somebody else owned the operation; `false`: the lease is held no more, or was claimed again since.
    pub(super) fn lost(&self) -> bool {
        let mut is_lost = false;
        let held = self.table.change(self.place, |held| {
            is_lost = held.claimed_again == self.claimed_again;
            if is_lost { Standing::Lost } else { held.standing }
        });
        held && is_lost
    }

    /// A renewal has failed, and the next is due then; `false`: the lease is held no more.
    pub(super) fn not_renewed(&self, due: Instant) -> bool {
        self.table.change(self.place, |held| {
            held.due = due;
            Standing::Unsure
        })
    }
}

fn earlier(first: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(first.map_or(other, |first| first.min(other)))
}

impl HeldLease {
    pub(super) fn new(table: Arc<Table>, held: Held) -> Self {
        let slot = table.slots().insert(held);
        Self { table, slot }
    }

    /// Whether the operation was this process's all the time, as far as it knows.
    pub(crate) fn is_sure(&self, now: Instant) -> bool {
        let slots = self.table.slots();
        let held = slots.slots.get(self.slot).and_then(|slot| slot.lease.as_ref());
        held.is_some_and(|held| held.standing == Standing::Sure && now < held.end)
    }

    /// What it is held for begins to run, and is renewed for so long from now on.
    pub(crate) fn runs_from(&self, now: Instant, renew_for: Option<Duration>) {
        let mut slots = self.table.slots();
        if let Some(held) = slots.slots.get_mut(self.slot).and_then(|slot| slot.lease.as_mut()) {
            (held.since, held.renew_for) = (Some(now), renew_for);
        }
    }

    /// What it is held for has ended, and is to be recorded: nothing hangs any more, so it is renewed until that is done.
    pub(crate) fn is_of_an_outcome(&self) {
        let mut slots = self.table.slots();
        if let Some(held) = slots.slots.get_mut(self.slot).and_then(|slot| slot.lease.as_mut()) {
            held.since = None;
        }
    }

    /// When it is due, and when it ends.
    #[cfg(test)]
    pub(super) fn times(&self) -> (Instant, Instant) {
        let mut slots = self.table.slots();
        let (_, held) = slots.held().find(|(place, _)| place.slot == self.slot).unwrap();
        (held.due, held.end)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let mut slots = self.table.slots();
        let slots = &mut *slots;
        let Some(slot) = slots.slots.get_mut(self.slot) else { return };
        if let Some(mut held) = slot.lease.take() {
            self.table.note(&mut held, Standing::Sure);
        }
        slot.tenancy += 1;
        slots.free.push(self.slot);
    }
}
