//! In which order steps are offered to the store, and how many at once.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use futures_util::{StreamExt, future::select, stream::FuturesUnordered};

use super::{Aftermath, Step};

/// What waits for the store.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Outcomes that the store has not been offered yet. First, as everybody who asks for one of them is told that it runs.
    outcomes: VecDeque<Waiting>,
    /// Claims under which nothing ran, and what the store has failed.
    others: VecDeque<Waiting>,
    offered: HashMap<u64, Waiting>,
    offers: u64,
}

/// One step, and how often the store has failed it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    step: Step,
    failures: u32,
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
        self.outcomes.len() + self.others.len() + self.offered.len()
    }

    pub(super) fn push(&mut self, step: Step) {
        let waiting = Waiting { step, failures: 0 };
        match step {
            Step::Complete(_) => self.outcomes.push_back(waiting),
            Step::Withdraw(_) | Step::GiveBack(..) => self.others.push_back(waiting),
        }
    }

    fn next(&mut self) -> Option<Offer> {
        let waiting = self.outcomes.pop_front().or_else(|| self.others.pop_front())?;
        self.offers += 1;
        self.offered.insert(self.offers, waiting);
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(waiting.failures);
        Some(Offer { id: self.offers, step: waiting.step, pause: pause.min(LONGEST_PAUSE) })
    }

    pub(super) fn settled(&mut self, offer: Offer) {
        self.offered.remove(&offer.id);
    }

    /// It is offered again, behind those that the store may take.
    fn failed(&mut self, offer: Offer) {
        if let Some(Waiting { step, failures }) = self.offered.remove(&offer.id) {
            self.others.push_back(Waiting { step, failures: failures.saturating_add(1) });
        }
    }

    /// Nobody offers any more: what was on its way may have been taken or not.
    fn interrupted(&mut self) {
        let mut offered: Vec<_> = self.offered.drain().collect();
        offered.sort_unstable_by_key(|(id, _)| *id);
        for (_, waiting) in offered.into_iter().rev() {
            self.outcomes.push_front(waiting);
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
            aftermath.backlog().queue.failed(offer);
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
