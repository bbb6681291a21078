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
    keys: Mutex<HashMap<StorageKey, Awaited>>,
    /// How many keys are waited for, so that an operation nobody waits for takes no lock.
    count: AtomicUsize,
}

/// A key that is waited for.
#[derive(Debug)]
struct Awaited {
    woken: watch::Sender<()>,
    /// How many wait. Not told by the receivers: one that leaves is still among them after it has looked.
    waiting: usize,
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
        let awaited = keys.entry(key).or_insert_with(|| Awaited { woken: watch::Sender::new(()), waiting: 0 });
        awaited.waiting += 1;
        let woken = awaited.woken.subscribe();
        self.0.count.store(keys.len(), Ordering::SeqCst);
        Waiting { waiters: self.clone(), key, woken, pause: FIRST_PAUSE }
    }

    pub(crate) fn wake(&self, key: &StorageKey) {
        if self.0.count.load(Ordering::SeqCst) > 0
            && let Some(awaited) = self.keys().get(key)
        {
            awaited.woken.send_replace(());
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StorageKey, Awaited>> {
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
        if let Some(awaited) = keys.get_mut(&self.key) {
            awaited.waiting -= 1;
            if awaited.waiting == 0 {
                keys.remove(&self.key);
            }
        }
        self.waiters.0.count.store(keys.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// What is left behind would make every operation of the process look for somebody to wake.
    #[test]
    fn a_key_is_gone_with_the_last_who_waits_though_the_last_leave_together() {
        const ROUNDS: usize = 200;
        let waiters = Waiters::default();
        let together = Barrier::new(2);
        let left = AtomicUsize::new(0);
        let come_and_go = || {
            for _ in 0..ROUNDS {
                let waiting: Vec<_> = (0..64).map(|key| waiters.join(StorageKey::from_bytes([key; 32]))).collect();
                together.wait();
                drop(waiting);
                together.wait();
                left.fetch_max(waiters.0.count.load(Ordering::SeqCst), Ordering::SeqCst);
                together.wait();
            }
        };
        std::thread::scope(|scope| {
            let another = scope.spawn(come_and_go);
            come_and_go();
            another.join().unwrap();
        });
        assert_eq!(left.into_inner(), 0);
        assert!(waiters.keys().is_empty());
    }
}
