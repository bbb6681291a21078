//! In which order steps are offered to the store, and how many at once.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{StreamExt, future::select, stream::FuturesUnordered};

use super::{Aftermath, Step};
use crate::key::StorageKey;

/// What waits for the store.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Outcomes that the store has not been offered yet: everybody who asks for one of them is told that it runs.
    outcomes: VecDeque<Waiting>,
    /// Outcomes that it has failed.
    failed: VecDeque<Waiting>,
    /// Claims that are to be given back: nothing ran under them, or nothing that is kept.
    claims: VecDeque<Waiting>,
    offered: HashMap<u64, Waiting>,
    offers: u64,
    /// How many claims of each key are to be given back.
    giving_back: HashMap<StorageKey, usize>,
}

/// One step, and how often the store has failed it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    step: Step,
    failures: u32,
}

impl Step {
    /// The key of a claim that it gives back.
    const fn gives_back(&self) -> Option<StorageKey> {
        match self {
            Self::Withdraw(release) => Some(release.key),
            Self::GiveBack(perhaps) => Some(perhaps.claim.key),
            Self::Complete(_) => None,
        }
    }
}

/// A step on its way to the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    id: u64,
    pub(super) step: Step,
    pause: Duration,
}

/// How many steps are offered at once. A store of which a part is away takes its time to say so, and the rest is not to wait for that.
const AT_ONCE: usize = 32;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Queue {
    /// Those on their way included.
    pub(super) fn len(&self) -> usize {
        self.outcomes.len() + self.failed.len() + self.claims.len() + self.offered.len()
    }

    pub(super) fn push(&mut self, step: Step) {
        if let Some(key) = step.gives_back() {
            *self.giving_back.entry(key).or_default() += 1;
        }
        self.line_up(Waiting { step, failures: 0 });
    }

    /// Whether a claim of this key is to be given back: whoever has the key may be one who has ended here.
    pub(super) fn gives_back(&self, key: &StorageKey) -> bool {
        self.giving_back.contains_key(key)
    }

    fn line_up(&mut self, waiting: Waiting) {
        match waiting {
            Waiting { step: Step::Withdraw(_) | Step::GiveBack(..), .. } => self.claims.push_back(waiting),
            Waiting { step: Step::Complete(_), failures: 0 } => self.outcomes.push_back(waiting),
            Waiting { step: Step::Complete(_), .. } => self.failed.push_back(waiting),
        }
    }

    /// New outcomes have every other turn, so that none of the rest waits for the last of them.
    fn next(&mut self) -> Option<Offer> {
        let Self { outcomes, failed, claims, .. } = self;
        let lines = match self.offers % 4 {
            0 | 2 => [outcomes, failed, claims],
            1 => [failed, outcomes, claims],
            _ => [claims, outcomes, failed],
        };
        let waiting = lines.into_iter().find_map(VecDeque::pop_front)?;
        self.offers += 1;
        self.offered.insert(self.offers, waiting);
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(waiting.failures);
        Some(Offer { id: self.offers, step: waiting.step, pause: pause.min(LONGEST_PAUSE) })
    }

    pub(super) fn settled(&mut self, offer: Offer) {
        self.offered.remove(&offer.id);
        if let Some(key) = offer.step.gives_back()
            && let Some(left) = self.giving_back.get_mut(&key)
        {
            *left -= 1;
            if *left == 0 {
                self.giving_back.remove(&key);
            }
        }
    }

    /// It is offered again, behind those that the store may take.
    fn has_failed(&mut self, offer: Offer) {
        if let Some(Waiting { step, failures }) = self.offered.remove(&offer.id) {
            self.line_up(Waiting { step, failures: failures.saturating_add(1) });
        }
    }

    /// Nobody offers any more: what was on its way may have been taken or not.
    fn interrupted(&mut self) {
        let mut offered: Vec<_> = self.offered.drain().collect();
        offered.sort_unstable_by_key(|(id, _)| *id);
        for (_, waiting) in offered {
            self.line_up(waiting);
        }
    }
}

/// The task that offers. Says that it is gone when its runtime ends it, so that the next outcome starts another.
pub(super) struct Working {
    aftermath: Aftermath,
    ended: bool,
}

impl Working {
    pub(super) fn new(aftermath: &Aftermath) -> Self {
        Self { aftermath: aftermath.clone(), ended: false }
    }

    pub(super) async fn run(mut self) {
        let aftermath = self.aftermath.clone();
        let mut offers = FuturesUnordered::new();
        loop {
            {
                let mut backlog = aftermath.backlog();
                while offers.len() < AT_ONCE
                    && let Some(offer) = backlog.queue.next()
                {
                    offers.push(offer_one(&aftermath, offer));
                }
                backlog.working = backlog.queue.len() > 0;
                if !backlog.working {
                    break;
                }
            }
            // What comes meanwhile is not to wait for those.
            let more = std::pin::pin!(aftermath.0.more.notified());
            select(offers.next(), more).await;
        }
        self.ended = true;
        aftermath.0.empty.notify_waiters();
    }
}

/// Keeps its place while it pauses, which bounds how often a store that is away is asked.
async fn offer_one(aftermath: &Aftermath, offer: Offer) {
    match aftermath.take(offer.step).await {
        Ok(taken) => aftermath.done(offer, &taken),
        Err(_) => {
            tokio::time::sleep(offer.pause).await;
            aftermath.backlog().queue.has_failed(offer);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.ended {
            let mut backlog = self.aftermath.backlog();
            backlog.queue.interrupted();
            backlog.working = false;
        }
    }
}
