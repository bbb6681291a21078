//! Leases of running operations, renewed beside them.
//!
//! One task for all of them, which any worker thread can take, so that an operation that never yields keeps its lease as long as
//! another worker is awake; and so that a short operation pays for a slot in a table and for no timer.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::metrics::Counters;
use crate::{
    apart::Apart,
    clock::micros,
    key::StorageKey,
    store::{Ownership, Renew, Store},
};

/// The leases this process holds.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    counters: Counters,
    /// Every operation writes it, and before that reads what would lie beside it.
    table: Apart<Mutex<Table>>,
    /// How many leases may have run out, so that no claim takes the lock while none has.
    unsure: AtomicUsize,
    /// When the first of the others may run out, in microseconds since `began`, or earlier.
    sure_until: AtomicU64,
    began: Instant,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// How many operations run here under a lease of this key that may have run out.
    unsure: HashMap<StorageKey, usize>,
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
    /// When it runs out, at the earliest, if it is not renewed.
    end: Instant,
    standing: Standing,
}

/// What this process knows of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sure,
    /// Its last renewal failed, or its time was over before it could be renewed: it may have run out.
    Unsure,
    /// It did, and somebody else owned the operation.
    Lost,
}

/// One lease, renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldLease {
    leases: Leases,
    slot: usize,
}

impl Leases {
    pub(crate) fn new(store: Arc<dyn Store>, counters: Counters) -> Self {
        Self(Arc::new(Shared {
            store,
            counters,
            table: Apart::default(),
            unsure: AtomicUsize::new(0),
            sure_until: AtomicU64::new(u64::MAX),
            began: Instant::now(),
            earlier: Notify::new(),
        }))
    }

    /// A lease that was granted, at the earliest, at `since`.
    pub(crate) fn hold(&self, renew: Renew, since: Instant) -> HeldLease {
        let (due, end) = (since + renew.lease / 3, since + renew.lease);
        let mut table = self.table();
        let slot = table.insert(Held { renew, due, end, standing: Standing::Sure });
        self.0.is_sure_until(end);
        let looks = table.next_look;
        if looks.is_none_or(|next_look| next_look > due) {
            table.next_look = Some(due);
        }
        drop(table);
        match looks {
            Some(next_look) if next_look <= due => {}
            Some(_) => {
                self.0.earlier.notify_one();
                let_others_have_it();
            }
            // Outside the lock: a runtime that is shutting down drops the task at once, and that takes the lock.
            None => {
                tokio::spawn(Renewing { leases: self.clone(), ended: false }.run(due));
                let_others_have_it();
            }
        }
        HeldLease { leases: self.clone(), slot }
    }

    /// Whether this process runs the operation under a lease that may have run out by `now`. Whoever claimed it, before the next
    /// renewal, would take it over from a handler that is still at it.
    pub(crate) fn is_unsure_of(&self, key: &StorageKey, now: Instant) -> bool {
        if self.0.sure_until.load(Ordering::Acquire) <= self.0.micros(now) {
            self.0.look_for_ends(&mut self.table(), now);
        }
        self.0.unsure.load(Ordering::Relaxed) > 0 && self.table().unsure.contains_key(key)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(self, slot: usize, tenancy: u64, renew: Renew) {
        let asked = Instant::now();
        let result = self.0.store.renew(renew).await;
        let mut table = self.table();
        if !table.is_held(slot, tenancy) {
            return;
        }
        match result {
            Ok(Ownership::Held) => {
                self.0.note(&mut table, slot, Standing::Sure);
                let end = asked + renew.lease;
                table.change(slot, |held| held.end = end);
                self.0.is_sure_until(end);
            }
            Ok(Ownership::Lost) => {
                // The operation cannot be stopped; its completion will be refused, and counted there.
                tracing::warn!(key = %renew.key, "the claim was lost while the operation runs");
                self.0.note(&mut table, slot, Standing::Lost);
            }
            Err(error) => {
                tracing::warn!(key = %renew.key, %error, "renewal failed, it will be tried again");
                self.0.counters.store_errors.add();
                self.0.note(&mut table, slot, Standing::Unsure);
                let due = Instant::now() + renew.lease / 12;
                table.change(slot, |held| held.due = due);
                if table.next_look.is_some_and(|next_look| next_look > due) {
                    self.0.earlier.notify_one();
                }
            }
        }
    }
}

impl Shared {
    fn micros(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.began))
    }

    /// Under the lock of the table, for a lease that is in it.
    fn is_sure_until(&self, end: Instant) {
        let end = self.micros(end);
        if end < self.sure_until.load(Ordering::Relaxed) {
            self.sure_until.store(end, Ordering::Relaxed);
        }
    }

    /// Under the lock of the table, so that no lease comes in between that this does not see.
    fn look_for_ends(&self, table: &mut Table, now: Instant) {
        let mut first = u64::MAX;
        for slot in 0..table.slots.len() {
            let Some(held) = table.slots[slot].lease.filter(|held| held.standing == Standing::Sure) else { continue };
            if held.end <= now {
                self.note(table, slot, Standing::Unsure);
            } else {
                first = first.min(self.micros(held.end));
            }
        }
        // Whoever sees this sees as well what was noted.
        self.sure_until.store(first, Ordering::Release);
    }

    fn note(&self, table: &mut Table, slot: usize, standing: Standing) {
        let Some(held) = table.slots.get_mut(slot).and_then(|slot| slot.lease.as_mut()) else { return };
        let key = held.renew.key;
        match (std::mem::replace(&mut held.standing, standing), standing) {
            (Standing::Sure, Standing::Unsure | Standing::Lost) => {
                *table.unsure.entry(key).or_default() += 1;
                self.unsure.fetch_add(1, Ordering::Relaxed);
            }
            (Standing::Unsure | Standing::Lost, Standing::Sure) => {
                if let Some(count) = table.unsure.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        table.unsure.remove(&key);
                    }
                }
                self.unsure.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// What a worker has woken last waits for that worker alone, and the effect may block it from now on. What it woke before is for all.
fn let_others_have_it() {
    tokio::spawn(std::future::ready(()));
}

impl Table {
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

    fn is_held(&self, slot: usize, tenancy: u64) -> bool {
        self.slots.get(slot).is_some_and(|slot| slot.tenancy == tenancy && slot.lease.is_some())
    }

    fn change(&mut self, slot: usize, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.slots.get_mut(slot).and_then(|slot| slot.lease.as_mut()) {
            change(held);
        }
    }

    /// Every lease that is due, put off by a third of its time, and when to look again.
    fn take_due(&mut self, now: Instant) -> (Vec<(usize, u64, Renew)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next_look = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(held) = slot.lease.as_mut().filter(|held| held.standing != Standing::Lost) else { continue };
            if held.due <= now {
                held.due = now + held.renew.lease / 3;
                due.push((index, slot.tenancy, held.renew));
            }
            next_look = Some(next_look.map_or(held.due, |next: Instant| next.min(held.due)));
        }
        (due, next_look)
    }
}

impl HeldLease {
    /// Whether the operation was this process's all the time, as far as it knows.
    pub(crate) fn is_sure(&self, now: Instant) -> bool {
        let table = self.leases.table();
        let held = table.slots.get(self.slot).and_then(|slot| slot.lease.as_ref());
        held.is_some_and(|held| held.standing == Standing::Sure && now < held.end)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let mut table = self.leases.table();
        self.leases.0.note(&mut table, self.slot, Standing::Sure);
        if let Some(slot) = table.slots.get_mut(self.slot) {
            slot.lease = None;
            slot.tenancy += 1;
            table.free.push(self.slot);
        }
    }
}

/// The task that renews. Says that it is gone when its runtime ends it, so that the next lease starts another.
struct Renewing {
    leases: Leases,
    ended: bool,
}

impl Renewing {
    /// Sleeps first: most operations are over long before their lease is due, and one task is there for all of them.
    async fn run(mut self, mut next_look: Instant) {
        loop {
            // Woken earlier when a lease is due before that; either way the table says what is due.
            let _ = timeout_at(next_look, self.leases.0.earlier.notified()).await;
            let (due, looks) = {
                let mut table = self.leases.table();
                let (due, looks) = table.take_due(Instant::now());
                table.next_look = looks;
                (due, looks)
            };
            for (slot, tenancy, renew) in due {
                tokio::spawn(self.leases.clone().renew(slot, tenancy, renew));
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
            self.leases.table().next_look = None;
        }
    }
}

#[cfg(test)]
mod tests;
