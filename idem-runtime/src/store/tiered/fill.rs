//! Copies on their way to Redis, for which nobody waits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::Instant};

use super::{Authority, Inner, Kept, copy};
use crate::{key::StorageKey, store::StoreError};

/// Keys whose answers are to be copied.
#[derive(Debug, Default)]
pub(super) struct Fills {
    queue: Mutex<Queue>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    keys: VecDeque<StorageKey>,
    /// The same keys: a hundred duplicates are one copy.
    waiting: HashSet<StorageKey>,
    is_served: bool,
}

/// At most so many keys wait. What comes on top is not copied; the next duplicate of it asks again.
const QUEUE: usize = 1024;

/// A copy is not written later than this after it was begun: what it is a copy of may be forgotten since.
const LATEST: Duration = Duration::from_secs(60);

/// How long nothing is copied of a key that was forgotten: much longer than a copy may be on its way.
const MARKED: Duration = Duration::from_secs(60 * 60);

/// So many are read from the authority at once.
const BATCH: usize = 32;

impl Fills {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nothing is on its way.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // From here on no notification is missed.
            idle.as_mut().enable();
            if !self.queue().is_served {
                return;
            }
            idle.await;
        }
    }
}

impl<A: Authority> Inner<A> {
    /// Has the answer of this key copied, some time soon or not at all.
    pub(super) fn fill(self: &Arc<Self>, key: StorageKey) {
        if self.cache.rests() {
            return;
        }
        let is_served = {
            let mut queue = self.fills.queue();
            if queue.keys.len() >= QUEUE || !queue.waiting.insert(key) {
                return;
            }
            queue.keys.push_back(key);
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            tokio::spawn(Serving { inner: Arc::clone(self), is_over: false }.run());
        }
    }

    async fn copy(self: &Arc<Self>, keys: &[StorageKey]) {
        let begun = Instant::now();
        // Before it is read: what is left counts from no later than this.
        let clocks = join_all(keys.iter().map(async |key| Some((*key, self.cache.clock(key).await?)))).await;
        let clocks: HashMap<_, _> = clocks.into_iter().flatten().collect();
        if clocks.is_empty() {
            return;
        }
        // An authority that does not answer has other requests to tell so.
        let Ok(kept) = self.authority.kept(keys).await else { return };
        let put = async |Kept { key, fingerprint, answer, left }| {
            let clock = clocks.get(&key).filter(|_| begun.elapsed() < LATEST)?;
            let is_written = self.cache.put(&key, &copy::seal(&key, &fingerprint, &answer), *clock, left).await?;
            (!is_written).then_some(key)
        };
        let refused = join_all(kept.into_iter().map(put)).await;
        for key in refused.into_iter().flatten() {
            // What nobody here wrote is taken away, and the authority asked once more: it may have forgotten the key since.
            if let Some(found) = self.cache.look(&key).await
                && !copy::is_ours(&key, &found)
                && self.cache.clear(&key, &found).await
            {
                self.fill(key);
            }
        }
    }

    /// Takes away the copy of a key whose record is gone, and keeps those away that are on their way here.
    pub(super) async fn forget_copy(&self, key: &StorageKey) -> Result<(), StoreError> {
        self.cache.mark(key, &copy::mark(key), MARKED).await
    }
}

/// The one task that serves the queue, for as long as there is something in it.
struct Serving<A: Authority> {
    inner: Arc<Inner<A>>,
    is_over: bool,
}

impl<A: Authority> Serving<A> {
    async fn run(mut self) {
        loop {
            let keys: Vec<_> = {
                let mut queue = self.inner.fills.queue();
                let batch = queue.keys.len().min(BATCH);
                let keys: Vec<_> = queue.keys.drain(..batch).collect();
                for key in &keys {
                    queue.waiting.remove(key);
                }
                if keys.is_empty() {
                    queue.is_served = false;
                    self.is_over = true;
                }
                keys
            };
            if keys.is_empty() {
                self.inner.fills.idle.notify_waiters();
                return;
            }
            self.inner.copy(&keys).await;
        }
    }
}

impl<A: Authority> Drop for Serving<A> {
    fn drop(&mut self) {
        if !self.is_over {
            // Dropped with its runtime: the next to ask must find the queue free.
            *self.inner.fills.queue() = Queue::default();
            self.inner.fills.idle.notify_waiters();
        }
    }
}
