//! Those who wait for somebody else's answer: woken at once by an operation of this process. Of those who wait for one key one asks again,
//! in growing, jittered steps, and wakes the others when it is told. Waiting holds no connection and no place among the operations in
//! flight.

use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{Engine, Operation, Ran, Refusal, claiming::Turn};
use crate::{key::StorageKey, policy::OnConflict, store::Fence};

/// Who waits for which key in this process.
#[derive(Debug, Clone)]
pub(crate) struct Waiters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Mutex<Room>,
    /// How many keys are waited for, so that an operation nobody waits for takes no lock.
    count: AtomicUsize,
    max: usize,
}

#[derive(Debug, Default)]
struct Room {
    keys: HashMap<StorageKey, Awaited>,
    /// How many wait, for whatever key.
    waiting: usize,
}

/// A key that is waited for.
#[derive(Debug)]
struct Awaited {
    woken: watch::Sender<()>,
    /// How many wait. Not told by the receivers: one that leaves is still among them after it has looked.
    waiting: usize,
    /// Had by the one of them who asks.
    asking: Arc<tokio::sync::Mutex<()>>,
    /// Of which owner a recovery function was asked while they waited, and could not tell. They leave once they have heard it.
    nobody_can_tell_of: Option<Fence>,
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiters: Waiters,
    key: StorageKey,
    woken: watch::Receiver<()>,
    asking: Arc<tokio::sync::Mutex<()>>,
    /// Whether this is the one who asks.
    asks: Option<OwnedMutexGuard<()>>,
    /// Whether it was, and has handed that over.
    has_asked: bool,
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

impl Engine {
    /// One turn, and more if `on_conflict` says to wait.
    pub(super) fn take_turns<T, F, Taking>(
        &self,
        operation: &Operation,
        effect: F,
        turn: impl Fn(F) -> Taking,
    ) -> impl Future<Output = Result<Ran<T>, Refusal>>
    where
        Taking: Future<Output = Turn<T, F>>,
    {
        operation.inside(async move {
            let ran = match turn(effect).await {
                Turn::Over(ran) => ran,
                // Nothing is known to run that one could wait for. Whoever waits already goes on, as the place is for one claim.
                Turn::Busy(_, refusal @ Refusal::Overloaded) => Err(refusal),
                // In a box, as all that is rare.
                busy @ Turn::Busy(..) => Box::pin(self.wait(operation, busy, turn)).await,
            };
            self.answered(&ran);
            ran
        })
    }

    /// Takes turns until somebody is done or `on_conflict` has been waited for. Holds nothing of the store in between.
    pub(super) async fn wait<T, F, Taking>(
        &self,
        operation: &Operation,
        taken: Turn<T, F>,
        turn: impl Fn(F) -> Taking,
    ) -> Result<Ran<T>, Refusal>
    where
        Taking: Future<Output = Turn<T, F>>,
    {
        let (mut effect, refusal, limit) = match (taken, operation.terms.on_conflict) {
            (Turn::Over(ran), _) => return ran,
            (Turn::Busy(_, refusal), OnConflict::Reject) => return Err(refusal),
            (Turn::Busy(effect, refusal), OnConflict::Wait(limit)) => (effect, refusal, limit),
        };
        let deadline = Instant::now() + limit;
        let Some(mut waiting) = self.0.waiters.join(operation.key) else { return Err(refusal) };
        loop {
            // An answer that came before the listening began is heard by the one who asks.
            waiting.pause(deadline).await;
            // Listening starts before the claim: an answer that comes between the two is not missed.
            waiting.listen();
            let mut turning = pin!(turn(effect));
            let taken = match timeout(LONGEST_PAUSE, &mut turning).await {
                Ok(taken) => taken,
                // It runs, for a long time perhaps, and may be taken over meanwhile: the others are not to hear of it from this one alone.
                Err(_) => {
                    waiting.hand_over();
                    turning.await
                }
            };
            match taken {
                Turn::Over(ran) => {
                    waiting.leave();
                    return ran;
                }
                Turn::Busy(_, refusal) if Instant::now() >= deadline => return Err(refusal),
                Turn::Busy(given_back, _) => effect = given_back,
            }
        }
    }
}

impl Waiters {
    /// At most `max` wait at once.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Shared { room: Mutex::default(), count: AtomicUsize::new(0), max }))
    }

    /// `None`: as many wait as may.
    pub(crate) fn join(&self, key: StorageKey) -> Option<Waiting> {
        let mut room = self.room();
        if room.waiting >= self.0.max {
            return None;
        }
        room.waiting += 1;
        let awaited = room.keys.entry(key).or_insert_with(Awaited::new);
        awaited.waiting += 1;
        let (woken, asking) = (awaited.woken.subscribe(), awaited.asking.clone());
        self.0.count.store(room.keys.len(), Ordering::SeqCst);
        Some(Waiting { waiters: self.clone(), key, woken, asking, asks: None, has_asked: false, pause: FIRST_PAUSE })
    }

    pub(crate) fn wake(&self, key: &StorageKey) {
        if self.0.count.load(Ordering::SeqCst) > 0
            && let Some(awaited) = self.room().keys.get(key)
        {
            awaited.woken.send_replace(());
        }
    }

    /// Nobody can tell what became of this owner of the operation that they wait for.
    pub(crate) fn hear_that_nobody_can_tell(&self, key: &StorageKey, owner: Fence) {
        if let Some(awaited) = self.room().keys.get_mut(key) {
            awaited.nobody_can_tell_of = Some(owner);
        }
    }

    pub(crate) fn know_that_nobody_can_tell(&self, key: &StorageKey, owner: Fence) -> bool {
        self.0.count.load(Ordering::SeqCst) > 0
            && self.room().keys.get(key).is_some_and(|awaited| awaited.nobody_can_tell_of == Some(owner))
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    fn new() -> Self {
        Self { woken: watch::Sender::new(()), waiting: 0, asking: Arc::default(), nobody_can_tell_of: None }
    }
}

impl Waiting {
    /// Whatever is woken from now on counts.
    pub(crate) fn listen(&mut self) {
        self.woken.mark_unchanged();
    }

    /// Until woken, or, for the one who asks, until it is time to ask again; at most until `deadline`.
    pub(crate) async fn pause(&mut self, deadline: Instant) {
        // The sender lives as long as we wait, so an error cannot come.
        if self.asks.is_none() {
            let (woken, asks) = (pin!(self.woken.changed()), pin!(self.asking.clone().lock_owned()));
            let Ok(Either::Right((asks, _))) = timeout_at(deadline, select(woken, asks)).await else { return };
            self.asks = Some(asks);
        }
        let pause = jittered(self.pause);
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        let until = (Instant::now() + pause).min(deadline);
        let _ = timeout_at(until, self.woken.changed()).await;
    }

    /// Somebody else asks from now on.
    fn hand_over(&mut self) {
        self.has_asked |= self.asks.take().is_some();
    }

    /// It need not wait any more. If it was the one who asked, the others are told that there is something to be heard.
    pub(crate) fn leave(self) {
        if self.asks.is_some() || self.has_asked {
            self.waiters.wake(&self.key);
        }
    }
}

/// Between half and all of the pause, so that those who came together do not ask together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let jitter = RandomState::new().hash_one(()) % 512;
    pause / 2 + pause * u32::try_from(jitter).unwrap_or(0) / 1024
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut room = self.waiters.room();
        room.waiting -= 1;
        if let Some(awaited) = room.keys.get_mut(&self.key) {
            awaited.waiting -= 1;
            if awaited.waiting == 0 {
                room.keys.remove(&self.key);
            }
        }
        self.waiters.0.count.store(room.keys.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn numbered(key: u32) -> StorageKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&key.to_be_bytes());
        StorageKey::from_bytes(bytes)
    }

    /// What is left behind would make every operation of the process look for somebody to wake.
    #[test]
    fn a_key_is_gone_with_the_last_who_waits_though_the_last_leave_together() {
        const ROUNDS: usize = 20;
        // So many that two threads which leave them in the same order meet at some, on however busy a machine.
        const KEYS: u32 = 5_000;
        let waiters = Waiters::new(usize::MAX);
        let together = Barrier::new(2);
        let left = AtomicUsize::new(0);
        let come_and_go = || {
            for _ in 0..ROUNDS {
                let waiting: Vec<_> = (0..KEYS).map(|key| waiters.join(numbered(key)).unwrap()).collect();
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
        assert!(waiters.room().keys.is_empty());
    }
}
