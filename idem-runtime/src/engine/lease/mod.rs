//! Leases of running operations, renewed beside them.
//!
//! One task for all of them, which any worker thread can take, so that an operation that never yields keeps its lease as long as
//! another worker is awake; and so that a short operation pays for a slot in a table and for no timer.
//!
//! A thread begins leases in a [`Table`] that it shares with none, or few. What is told of all tables, when to renew next and when the
//! first lease may have run out, is found by looking at one after the other while others go on beginning leases. None is overlooked,
//! as a look says that it has begun before it takes the first table's lock, and a lease is in its table before its holder looks at what was
//! said. So either the look finds the lease, or its holder finds the word, and tells of the lease itself.

mod doubt;
mod table;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(crate) use self::table::HeldLease;
use self::{
    doubt::Doubt,
    table::{Due, Held, Table, Tenant},
};
use super::metrics::Counters;
use crate::{
    clock::micros,
    key::StorageKey,
    per_thread::PerThread,
    store::{Ownership, Renew, Store, Token},
};

/// The leases this process holds.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Shared>);

/// What every operation reads, apart from what every operation writes: its table.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    counters: Counters,
    tables: PerThread<Arc<Table>>,
    doubt: Arc<Doubt>,
    /// When the renewing task is to look next, in microseconds since `began`. [`NEVER`]: not at all, or it is looking, and has not heard of
    /// a lease since.
    next_look: AtomicU64,
    /// Held to change `next_look`.
    renewing: Mutex<Renewal>,
    earlier: Notify,
    /// When the first lease that is still sure may run out, or earlier, in microseconds since `began`. [`LOOKING`]: somebody finds out.
    sure_until: AtomicU64,
    /// Held to change `sure_until`.
    looking: Mutex<()>,
    /// Where the renewing task runs, or ran.
    runtime: Mutex<Option<Handle>>,
    began: Instant,
}

/// What the renewing task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// There is none.
    Ended,
    /// It sleeps, or is about to: whoever wants it to look earlier must wake it.
    Sleeps,
    /// It looks, and reads `next_look` before it sleeps.
    Looks,
}

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// A time that is always over.
const LOOKING: u64 = 0;

impl Leases {
    pub(crate) fn new(store: Arc<dyn Store>, counters: Counters) -> Self {
        let doubt = Arc::<Doubt>::default();
        Self(Arc::new(Shared {
            store,
            counters,
            tables: PerThread::new(|| Arc::new(Table::new(doubt.clone()))),
            doubt,
            next_look: AtomicU64::new(NEVER),
            renewing: Mutex::new(Renewal::Ended),
            earlier: Notify::new(),
            sure_until: AtomicU64::new(NEVER),
            looking: Mutex::new(()),
            runtime: Mutex::new(None),
            began: Instant::now(),
        }))
    }

    /// A lease that was granted, at the earliest, at `since`, and is renewed for so long from then on; `None`: for as long as it is held.
    pub(crate) fn hold(&self, renew: Renew, since: Instant, renew_for: Option<Duration>) -> HeldLease {
        let held = Held::new(renew, since, renew_for);
        let (due, end) = (held.due(), held.end());
        let lease = HeldLease::new(self.0.tables.here().clone(), held);
        self.0.is_sure_until(end);
        self.is_due(due);
        lease
    }

    /// Whether this process runs the operation under a lease that may have run out by `now`. Whoever claimed it, before the next
    /// renewal, would take it over from a handler that is still at it.
    pub(crate) fn is_unsure_of(&self, key: &StorageKey, now: Instant) -> bool {
        if self.0.sure_until.load(Ordering::Acquire) <= self.0.micros(now) {
            self.0.look_for_ends(now);
        }
        self.0.doubt.is_about(key)
    }

    /// The other token under which this process runs the operation. From then on it is unsure of that claim, until it is renewed.
    ///
    /// Looks through all tables: to be asked only by who has taken over what was abandoned.
    pub(crate) fn other_owner(&self, key: &StorageKey, token: Token) -> Option<Token> {
        self.0.tables.iter().filter_map(|table| table.doubt_other(key, token)).fold(None, |_, other| Some(other))
    }

    /// The operation was claimed for this token again, whose lease may have been found lost meanwhile: it is renewed from now on.
    pub(crate) fn claimed_again(&self, key: &StorageKey, token: Token) {
        let now = Instant::now();
        if self.0.tables.iter().any(|table| table.claimed_again(key, token, now)) {
            self.is_due(now);
        }
    }

    /// For how long the oldest operation that runs here has held its lease. Looks through all tables.
    pub(crate) fn oldest(&self) -> Duration {
        let oldest = self.0.tables.iter().filter_map(|table| table.oldest()).min();
        oldest.map_or(Duration::ZERO, |oldest| oldest.elapsed())
    }

    /// The runtime that renews, if a lease was ever held.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees to it that the renewing task looks at `due`, or earlier. The lease is in its table.
    fn is_due(&self, due: Instant) {
        let due_micros = self.0.micros(due);
        if due_micros >= self.0.next_look.load(Ordering::Acquire) {
            return;
        }
        // First, as outside of every runtime it panics: what is set below says that somebody is there to renew.
        let runtime = Handle::current();
        let before = {
            let mut renewing = self.0.renewing();
            self.0.next_look.fetch_min(due_micros, Ordering::AcqRel);
            let before = *renewing;
            if before == Renewal::Ended {
                *renewing = Renewal::Sleeps;
            }
            before
        };
        // Outside the lock: a runtime that is shutting down drops the task at once, and that takes the lock.
        match before {
            Renewal::Ended => {
                drop(runtime.spawn(Renewing { leases: self.clone(), ended: false }.run(due)));
                *self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
            }
            Renewal::Sleeps => self.0.earlier.notify_one(),
            Renewal::Looks => return,
        }
        let_others_have_it();
    }

    async fn renew(self, tenant: Tenant) {
        let renew = tenant.renew;
        let asked = Instant::now();
        match self.0.store.renew(renew).await {
            Ok(Ownership::Held) => {
                let end = asked + renew.lease;
                if tenant.renewed(end) {
                    self.0.is_sure_until(end);
                }
            }
            Ok(Ownership::Lost) => {
                if tenant.lost() {
                    // The operation cannot be stopped; its completion will be refused, and counted there.
                    tracing::warn!(key = %renew.key, "the claim was lost while the operation runs");
                }
            }
            Err(error) => {
                let due = Instant::now() + renew.lease / 12;
                if tenant.not_renewed(due) {
                    tracing::warn!(key = %renew.key, %error, "renewal failed, it will be tried again");
                    self.0.counters.store_errors.add();
                    self.is_due(due);
                }
            }
        }
    }
}

impl Shared {
    fn micros(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.began))
    }

    fn renewing(&self) -> MutexGuard<'_, Renewal> {
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looking(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease is in its table.
    fn is_sure_until(&self, end: Instant) {
        let end = self.micros(end);
        let sure_until = self.sure_until.load(Ordering::Acquire);
        if sure_until == LOOKING || end < sure_until {
            let _looking = self.looking();
            self.sure_until.fetch_min(end, Ordering::AcqRel);
        }
    }

    /// Notes every lease that may have run out.
    fn look_for_ends(&self, now: Instant) {
        let _looking = self.looking();
        if self.sure_until.load(Ordering::Acquire) > self.micros(now) {
            // Whoever held the lock before has looked.
            return;
        }
        self.sure_until.store(LOOKING, Ordering::Release);
        let first = self.tables.iter().filter_map(|table| table.doubt_ends(now)).min();
        // Whoever sees this sees as well what was noted.
        self.sure_until.store(first.map_or(NEVER, |first| self.micros(first)), Ordering::Release);
    }

    /// Every lease that is due, and when to look again; `None`: nothing is to be renewed, and the task is over.
    fn take_due(&self, now: Instant) -> (Due, Option<Instant>) {
        {
            let mut renewing = self.renewing();
            *renewing = Renewal::Looks;
            // Takes nobody's word away: who gave it had put the lease into its table, and the tables are read after this.
            self.next_look.store(NEVER, Ordering::Release);
        }
        let mut due = Due::default();
        let first = self.tables.iter().filter_map(|table| table.take_due(now, &mut due)).min();
        let mut renewing = self.renewing();
        if let Some(first) = first {
            self.next_look.fetch_min(self.micros(first), Ordering::AcqRel);
        }
        let next_look = self.next_look.load(Ordering::Acquire);
        *renewing = if next_look == NEVER { Renewal::Ended } else { Renewal::Sleeps };
        // Rounded up: what is due within that microsecond is due then.
        let sleeps = (next_look != NEVER).then(|| self.began + Duration::from_micros(next_look + 1));
        (due, sleeps)
    }
}

/// What a worker has woken last waits for that worker alone, and the effect may block it from now on. What it woke before is for all.
fn let_others_have_it() {
    tokio::spawn(std::future::ready(()));
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
            // Woken earlier when a lease is due before that; either way the tables say what is due.
            let _ = timeout_at(next_look, self.leases.0.earlier.notified()).await;
            let (due, looks) = self.leases.0.take_due(Instant::now());
            for key in due.let_go {
                self.leases.0.counters.leases_let_go.add();
                tracing::warn!(%key, "the operation runs for longer than `renew_for`: its lease is renewed no more and runs out");
            }
            for tenant in due.renewals {
                tokio::spawn(self.leases.clone().renew(tenant));
            }
            next_look = match looks {
                Some(looks) => looks,
                None => {
                    // The next lease starts another task.
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
            let mut renewing = self.leases.0.renewing();
            self.leases.0.next_look.store(NEVER, Ordering::Release);
            *renewing = Renewal::Ended;
        }
    }
}

#[cfg(test)]
mod tests;
