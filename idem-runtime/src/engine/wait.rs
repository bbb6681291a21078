//! Those who wait for somebody else's answer: woken at once by an operation of this process, else asking again in growing,
//! jittered steps. Waiting holds no connection and no place among the operations in flight.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::key::StorageKey;

/// Who waits for which key in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    keys: Mutex<HashMap<StorageKey, watch::Sender<()>>>,
    /// How many keys are waited for, so that an operation nobody waits for takes no lock.
    count: AtomicUsize,
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiters: Waiters,
    key: StorageKey,
    woken: watch::Receiver<()>,
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Waiters {
    pub(crate) fn join(&self, key: StorageKey) -> Waiting {
        let mut keys = self.keys();
        let woken = keys.entry(key).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.0.count.store(keys.len(), Ordering::SeqCst);
        Waiting { waiters: self.clone(), key, woken, pause: FIRST_PAUSE }
    }

    pub(crate) fn wake(&self, key: &StorageKey) {
        if self.0.count.load(Ordering::SeqCst) > 0
            && let Some(sender) = self.keys().get(key)
        {
            sender.send_replace(());
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StorageKey, watch::Sender<()>>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whatever is woken from now on counts.
    pub(crate) fn listen(&mut self) {
        self.woken.mark_unchanged();
    }

    /// Until woken, or until it is time to ask again, at most until `deadline`.
    pub(crate) async fn pause(&mut self, deadline: Instant) {
        let pause = jittered(self.pause);
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        let until = (Instant::now() + pause).min(deadline);
        // The sender lives as long as we wait, so an error cannot come.
        let _ = tokio::time::timeout_at(until, self.woken.changed()).await;
    }
}

/// Between half and all of the pause, so that those who came together do not ask together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let jitter = RandomState::new().hash_one(()) % 512;
    pause / 2 + pause * u32::try_from(jitter).unwrap_or(0) / 1024
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut keys = self.waiters.keys();
        // This receiver is still counted.
        if keys.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            keys.remove(&self.key);
        }
        self.waiters.0.count.store(keys.len(), Ordering::SeqCst);
    }
}
