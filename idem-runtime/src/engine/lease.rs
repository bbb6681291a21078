//! Leases of running operations, renewed beside them.
//!
//! One task for all that are held by one thread, so that an operation that never yields keeps its lease as long as another worker
//! thread is free, and so that a short operation pays for a slot in a table and for no timer.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::metrics::Counters;
use crate::{
    key::StorageKey,
    per_thread::PerThread,
    store::{Ownership, Renew, Store},
};

/// The leases this process holds.
#[derive(Debug)]
pub(crate) struct Leases {
    groups: PerThread<Group>,
    /// How many leases may have run out, so that no claim takes a lock while none has.
    unsure: Arc<AtomicUsize>,
}

/// Those that one thread holds.
#[derive(Debug, Clone)]
struct Group(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    counters: Counters,
    table: Mutex<Table>,
    /// Of all groups.
    unsure: Arc<AtomicUsize>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// When the renewing task looks next; `None`: it does not run.
    next_look: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    /// Tells one tenant of the slot from the next.
    tenancy: u64,
    lease: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    renew: Renew,
    due: Instant,
    /// Its last renewal failed: it may have run out since.
    unsure: bool,
}

/// One lease, renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    group: Group,
    slot: usize,
    tenancy: u64,
}

impl Leases {
    pub(crate) fn new(store: &Arc<dyn Store>, counters: &Counters) -> Self {
        let unsure = Arc::default();
        let groups = PerThread::new(|| Group::new(store.clone(), counters.clone(), Arc::clone(&unsure)));
        Self { groups, unsure }
    }

    /// A lease that was granted, at the earliest, at `since`.
    pub(crate) fn hold(&self, renew: Renew, since: Instant) -> HeldLease {
        self.groups.here().hold(renew, since)
    }

    /// Whether this process runs the operation under a lease that may have run out. Whoever claimed it now, before the next renewal,
    /// would take it over from a handler that is still at it.
    pub(crate) fn is_unsure_of(&self, key: &StorageKey) -> bool {
        self.unsure.load(Ordering::Relaxed) > 0 && self.groups.iter().any(|group| group.is_unsure_of(key))
    }
}

impl Group {
    fn new(store: Arc<dyn Store>, counters: Counters, unsure: Arc<AtomicUsize>) -> Self {
        Self(Arc::new(Shared { store, counters, table: Mutex::default(), unsure, earlier: Notify::new() }))
    }

    fn hold(&self, renew: Renew, since: Instant) -> HeldLease {
        let due = since + renew.lease / 3;
        let mut table = self.table();
        let (slot, tenancy) = table.insert(Held { renew, due, unsure: false });
        let looks = table.next_look;
        if looks.is_none_or(|next_look| next_look > due) {
            table.next_look = Some(due);
        }
        drop(table);
        match looks {
            Some(next_look) if next_look <= due => {}
            Some(_) => self.0.earlier.notify_one(),
            // Outside the lock: a runtime that is shutting down drops the task at once, and that takes the lock.
            None => drop(tokio::spawn(Renewing { group: self.clone(), ended: false }.run(due))),
        }
        HeldLease { group: self.clone(), slot, tenancy }
    }

    fn is_unsure_of(&self, key: &StorageKey) -> bool {
        let table = self.table();
        table.slots.iter().filter_map(|slot| slot.lease.as_ref()).any(|held| held.unsure && held.renew.key == *key)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(self, slot: usize, tenancy: u64, renew: Renew) {
        let result = self.0.store.renew(renew).await;
        let mut table = self.table();
        let Some(lease) = table.slots.get_mut(slot).filter(|slot| slot.tenancy == tenancy).map(|slot| &mut slot.lease)
        else {
            return;
        };
        match result {
            Ok(Ownership::Held) => self.0.note(lease.as_mut(), false),
            Ok(Ownership::Lost) => {
                // The operation cannot be stopped; its completion will be refused, and counted there.
                tracing::warn!(key = %renew.key, "the claim was lost while the operation runs");
                self.0.note(lease.as_mut(), false);
                *lease = None;
            }
            Err(error) => {
                tracing::warn!(key = %renew.key, %error, "renewal failed, it will be tried again");
                self.0.counters.store_errors.add();
                self.0.note(lease.as_mut(), true);
                if let Some(held) = lease {
                    held.due = Instant::now() + renew.lease / 12;
                    if table.next_look.is_some_and(|next_look| next_look > Instant::now() + renew.lease / 12) {
                        self.0.earlier.notify_one();
                    }
                }
            }
        }
    }
}

impl Shared {
    /// Under the lock of the table.
    fn note(&self, held: Option<&mut Held>, unsure: bool) {
        let Some(held) = held else { return };
        match (std::mem::replace(&mut held.unsure, unsure), unsure) {
            (false, true) => drop(self.unsure.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.unsure.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

impl Table {
    fn insert(&mut self, held: Held) -> (usize, u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { tenancy: 0, lease: None });
            self.slots.len() - 1
        });
        let tenancy = self.slots.get_mut(slot).map_or(0, |slot| {
            slot.lease = Some(held);
            slot.tenancy
        });
        (slot, tenancy)
    }

    /// Every lease that is due, put off by a third of its time, and when to look again.
    fn take_due(&mut self, now: Instant) -> (Vec<(usize, u64, Renew)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next_look = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(held) = &mut slot.lease else { continue };
            if held.due <= now {
                held.due = now + held.renew.lease / 3;
                due.push((index, slot.tenancy, held.renew));
            }
            next_look = Some(next_look.map_or(held.due, |next: Instant| next.min(held.due)));
        }
        (due, next_look)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let mut table = self.group.table();
        if let Some(slot) = table.slots.get_mut(self.slot).filter(|slot| slot.tenancy == self.tenancy) {
            self.group.0.note(slot.lease.as_mut(), false);
            slot.lease = None;
            slot.tenancy += 1;
            table.free.push(self.slot);
        }
    }
}

/// The task that renews. Says that it is gone when its runtime ends it, so that the next lease starts another.
struct Renewing {
    group: Group,
    ended: bool,
}

impl Renewing {
    /// Sleeps first: most operations are over long before their lease is due, and one task is there for all of them.
    async fn run(mut self, mut next_look: Instant) {
        loop {
            // Woken earlier when a lease is due before that; either way the table says what is due.
            let _ = timeout_at(next_look, self.group.0.earlier.notified()).await;
            let (due, looks) = {
                let mut table = self.group.table();
                let (due, looks) = table.take_due(Instant::now());
                table.next_look = looks;
                (due, looks)
            };
            for (slot, tenancy, renew) in due {
                tokio::spawn(self.group.clone().renew(slot, tenancy, renew));
            }
            next_look = match looks {
                Some(looks) => looks,
                None => {
                    // Nothing is held: the next lease starts another task.
                    self.ended = true;
                    return;
                }
            };
        }
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if !self.ended {
            self.group.table().next_look = None;
        }
    }
}

#[cfg(test)]
mod tests;
