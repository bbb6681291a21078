//! Outcomes the store has not taken yet: kept, offered again until it does, and known to this process meanwhile.

mod queue;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify};

use self::queue::{Offer, Queue, Working};
use super::{Operation, Ran, Refusal, lease::HeldLease, metrics::Counters};
use crate::{
    key::StorageKey,
    store::{Claim, Claimed, Complete, Outcome, Ownership, Release, Renew, Store, StoreError, StoreErrorKind},
};

/// The outcomes of one engine that wait for the store.
#[derive(Debug, Clone)]
pub(crate) struct Aftermath(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    counters: Counters,
    bounds: Bounds,
    backlog: Mutex<Backlog>,
    /// How many wait, so that nobody takes the lock while none does.
    waiting: AtomicUsize,
    /// How many claims are to be looked for once more.
    looked_for: AtomicUsize,
    /// Told whoever offers, when there is more to offer.
    more: Notify,
    empty: Notify,
}

#[derive(Debug, Default)]
struct Backlog {
    completions: HashMap<StorageKey, Unrecorded>,
    bytes: usize,
    queue: Queue,
    working: bool,
}

/// One completion that the store has not taken.
#[derive(Debug)]
struct Unrecorded {
    claim: Claim,
    complete: Complete,
    /// As long as renewals get through, no other process takes the operation for abandoned.
    _lease: Option<HeldLease>,
    others: Vec<Another>,
    /// How often the store took another step on the record, and had no answer to this one.
    too_heavy: u32,
}

/// Another run of an operation that was not recorded in time, beside the first: nobody could be asked. Its claim may be the one that
/// the store has.
#[derive(Debug)]
struct Another {
    claim: Claim,
    /// What is known of it, without its answer.
    outcome: Outcome,
    _lease: Option<HeldLease>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Complete(StorageKey),
    Withdraw(Release),
    GiveBack(Perhaps),
}

/// A claim that was won perhaps, and under which nothing ran.
#[derive(Debug, Clone, Copy)]
struct Perhaps {
    claim: Claim,
    /// How long an attempt before it is remembered.
    remember: Duration,
    /// Whether it was looked for before, and the store knew nothing of it.
    again: bool,
}

/// A claim that is to be looked for once more.
struct LookedFor(Weak<Shared>);

/// What became of a step that the store has answered.
#[derive(Debug)]
enum Taken {
    Settled,
    /// Somebody else owned the operation, and none of those that were offered.
    Lost {
        offers: usize,
    },
}

/// How much may wait for the store.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Beyond this many outcomes one is dropped, and counted; beyond half as many a claim that is to be given back.
    steps: usize,
    /// Beyond this many bytes of answers and of parked events it is only remembered that an operation ran, or failed.
    bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { steps: 100_000, bytes: 256 << 20 }
    }
}

/// From so many bytes on an outcome may be what a store cannot take within its time-out.
const HEAVY: usize = 64 << 10;

/// How often it is offered though the store had no answer to it, and took a renewal of the same record.
const HEAVY_OFFERS: u32 = 8;

impl Aftermath {
    pub(crate) fn new(store: Arc<dyn Store>, counters: Counters) -> Self {
        Self::with_bounds(store, counters, Bounds::default())
    }

    fn with_bounds(store: Arc<dyn Store>, counters: Counters, bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            store,
            counters,
            bounds,
            backlog: Mutex::default(),
            waiting: AtomicUsize::new(0),
            looked_for: AtomicUsize::new(0),
            more: Notify::new(),
            empty: Notify::new(),
        }))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// What this process knows of an operation that ran and is not recorded yet.
    pub(crate) fn find<T>(&self, operation: &Operation) -> Option<Result<Ran<T>, Refusal>> {
        if self.waiting() == 0 {
            return None;
        }
        let backlog = self.backlog();
        let Unrecorded { claim, complete, .. } = backlog.completions.get(&operation.key)?;
        if claim.fingerprint != operation.fingerprint {
            return Some(Err(Refusal::Mismatch));
        }
        Some(match &complete.outcome {
            Outcome::Answer(answer) => Ok(Ran::Replay(answer.clone())),
            Outcome::Tombstone => Err(Refusal::NotKept),
            Outcome::Unknown => Err(Refusal::Unknown),
            // Nobody may forget it before the store has it.
            Outcome::Parked(_) => Err(Refusal::unavailable(StoreErrorKind::Unavailable)),
        })
    }

    /// Offers a completion until the store takes it, and holds its lease meanwhile.
    pub(crate) fn complete(&self, claim: Claim, mut complete: Complete, lease: Option<HeldLease>) {
        lease.iter().for_each(HeldLease::is_of_an_outcome);
        let mut backlog = self.backlog();
        if backlog.queue.len() >= self.0.bounds.steps {
            drop(backlog);
            return self.give_up(&claim.key);
        }
        // Two unguarded runs of one operation: the first answer is the one to keep.
        if let Some(first) = backlog.completions.get_mut(&claim.key) {
            let outcome = without_bytes(complete.outcome);
            first.others.push(Another { claim, outcome, _lease: lease });
            return;
        }
        if backlog.bytes + answer_bytes(&complete) > self.0.bounds.bytes {
            complete.outcome = without_bytes(complete.outcome);
        }
        backlog.bytes += answer_bytes(&complete);
        backlog
            .completions
            .insert(claim.key, Unrecorded { claim, complete, _lease: lease, others: Vec::new(), too_heavy: 0 });
        self.push(backlog, Step::Complete(claim.key));
    }

    /// Offers a release until the store takes it.
    pub(crate) fn withdraw(&self, release: Release) {
        self.enqueue(&release.key, Step::Withdraw(release));
    }

    /// Gives back a claim that was won perhaps, and under which nothing ran. If there was an attempt before it, that is
    /// remembered so long.
    pub(crate) fn give_back(&self, claim: Claim, remember: Duration) {
        self.enqueue(&claim.key, Step::GiveBack(Perhaps { claim, remember, again: false }));
    }

    /// Resolves at a moment when nothing waits.
    pub(crate) async fn empty(&self) {
        loop {
            let mut notified = std::pin::pin!(self.0.empty.notified());
            notified.as_mut().enable();
            if self.waiting() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Goes on where the runtime that offered has ended.
    pub(crate) fn resume(&self) {
        if self.waiting() > 0 {
            self.work(self.backlog());
        }
    }

    /// A key that is not given back stays taken until its lease is over; an outcome that is lost may be one that happens twice. Half of
    /// the room is kept for those.
    fn enqueue(&self, key: &StorageKey, step: Step) {
        let backlog = self.backlog();
        if backlog.queue.len() >= self.0.bounds.steps / 2 {
            drop(backlog);
            return self.give_up(key);
        }
        self.push(backlog, step);
    }

    fn push(&self, mut backlog: MutexGuard<'_, Backlog>, step: Step) {
        backlog.queue.push(step);
        self.0.waiting.store(backlog.queue.len(), Ordering::SeqCst);
        self.work(backlog);
    }

    fn work(&self, mut backlog: MutexGuard<'_, Backlog>) {
        // Outside of every runtime it waits for the next outcome, or for whoever drains.
        let Ok(runtime) = Handle::try_current() else { return };
        let idle = !std::mem::replace(&mut backlog.working, true);
        // Outside the lock: a runtime that is shutting down drops the task at once, and that takes the lock.
        drop(backlog);
        if idle {
            runtime.spawn(Working::new(self).run());
        } else {
            self.0.more.notify_one();
        }
    }

    fn give_up(&self, key: &StorageKey) {
        self.0.counters.dropped_outcomes.add();
        tracing::error!(%key, "too many outcomes wait for the store, one was dropped");
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.0.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, step: Step) -> Result<Taken, StoreError> {
        match step {
            Step::Withdraw(release) => {
                // Lost: it was never taken, or is settled.
                let (Ownership::Held | Ownership::Lost) = self.0.store.release(release).await?;
            }
            Step::GiveBack(perhaps) => {
                let found = give_back(&*self.0.store, &perhaps).await?;
                if found == Ownership::Lost && !perhaps.again {
                    self.look_again(perhaps);
                }
            }
            Step::Complete(key) => {
                let (offered, gives_back) = {
                    let backlog = self.backlog();
                    (backlog.completions.get(&key).map(Unrecorded::offers), backlog.queue.gives_back(&key))
                };
                let Some((claim, offers)) = offered else { return Ok(Taken::Settled) };
                match offer(&*self.0.store, claim, &offers).await {
                    Ok(Ownership::Held) => {}
                    Ok(Ownership::Lost) if gives_back || self.backlog().queue.gives_back(&key) => {
                        // The key is freed, and what ran beside that is recorded then.
                        return Err(StoreError::new(
                            StoreErrorKind::Conflict,
                            "a claim of the key is still to be given back",
                        ));
                    }
                    Ok(Ownership::Lost) => return Ok(Taken::Lost { offers: offers.len() }),
                    Err(error) => {
                        match error.kind() {
                            StoreErrorKind::Full => self.forget_answer(&key),
                            StoreErrorKind::Unavailable => self.weigh(claim).await,
                            _ => {}
                        }
                        return Err(error);
                    }
                }
            }
        }
        Ok(Taken::Settled)
    }

    /// The store may carry out a claim behind its give-back, as where its commit stands still on the server for longer than anybody waits
    /// for it. Then nobody owns the key, and the claim is given back within its lease. Nothing waits for that.
    fn look_again(&self, perhaps: Perhaps) {
        let one_more = |looked_for| (looked_for < self.0.bounds.steps / 2).then_some(looked_for + 1);
        if self.0.looked_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
            return;
        }
        let looked_for = LookedFor(Arc::downgrade(&self.0));
        tokio::spawn(async move {
            tokio::time::sleep(perhaps.claim.lease / 2).await;
            if let Some(shared) = looked_for.0.upgrade() {
                Self(shared).enqueue(&perhaps.claim.key, Step::GiveBack(Perhaps { again: true, ..perhaps }));
            }
        });
    }

    /// There is no room for the answer; that it ran is recorded without.
    fn forget_answer(&self, key: &StorageKey) {
        let mut backlog = self.backlog();
        let unrecorded = backlog.completions.get(key);
        if unrecorded.is_some_and(|unrecorded| matches!(unrecorded.complete.outcome, Outcome::Answer(_))) {
            backlog.forget_bytes(key);
        }
    }

    /// What does not come through within the store's time-out, though a renewal of the same record does, would be offered for ever. It is
    /// recorded without its bytes.
    async fn weigh(&self, claim: Claim) {
        let weight =
            self.backlog().completions.get(&claim.key).map_or(0, |unrecorded| answer_bytes(&unrecorded.complete));
        if weight < HEAVY || !matches!(self.0.store.renew(Renew::of(&claim)).await, Ok(Ownership::Held)) {
            return;
        }
        let mut backlog = self.backlog();
        let Some(unrecorded) = backlog.completions.get_mut(&claim.key) else { return };
        unrecorded.too_heavy += 1;
        if unrecorded.too_heavy == HEAVY_OFFERS {
            let bytes = backlog.forget_bytes(&claim.key);
            tracing::warn!(
                key = %claim.key, bytes,
                "an outcome is recorded without its answer, which the store does not take within its time-out: lower `max_answer_bytes`, or \
                 give the store more time"
            );
        }
    }

    fn done(&self, offer: Offer, taken: &Taken) {
        let mut backlog = self.backlog();
        let unrecorded = match offer.step {
            Step::Complete(key) => {
                if let Taken::Lost { offers } = taken {
                    // One that ran beside it and ended meanwhile may be the owner who is in the way: it is to be offered as well.
                    if backlog.completions.get(&key).is_some_and(|unrecorded| unrecorded.runs() > *offers) {
                        backlog.queue.settled(offer);
                        backlog.queue.push(offer.step);
                        return;
                    }
                    self.0.counters.stale_owners.add();
                    tracing::warn!(%key, "another owner took over before the outcome was recorded");
                }
                backlog.completions.remove(&key)
            }
            Step::Withdraw(_) | Step::GiveBack(..) => None,
        };
        backlog.queue.settled(offer);
        if let Some(unrecorded) = &unrecorded {
            backlog.bytes -= answer_bytes(&unrecorded.complete);
        }
        self.0.waiting.store(backlog.queue.len(), Ordering::SeqCst);
        // The lease goes with it, outside the lock.
        drop(backlog);
    }
}

impl Drop for LookedFor {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.looked_for.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Backlog {
    /// What is recorded of the outcome from now on is without its bytes, of which there were so many.
    fn forget_bytes(&mut self, key: &StorageKey) -> usize {
        let Some(Unrecorded { complete, .. }) = self.completions.get_mut(key) else { return 0 };
        let bytes = answer_bytes(complete);
        complete.outcome = without_bytes(complete.outcome.clone());
        self.bytes -= bytes;
        bytes
    }
}

impl Unrecorded {
    /// How many runs may own the operation.
    fn runs(&self) -> usize {
        1 + self.others.len()
    }

    /// The claim of the first run, its completion, and those by which the others would complete what they may own.
    fn offers(&self) -> (Claim, Vec<Complete>) {
        let others = self.others.iter().map(|another| {
            // The same request has the same answer. Another one's is not kept: its own was not the first.
            let same = another.claim.fingerprint == self.claim.fingerprint;
            let outcome = if same { &self.complete.outcome } else { &another.outcome };
            Complete { token: another.claim.token, outcome: outcome.clone(), ..self.complete.clone() }
        });
        (self.claim, std::iter::once(self.complete.clone()).chain(others).collect())
    }
}

/// Completes as the first who owns the operation. Insists on the first completion where nobody does.
async fn offer(store: &dyn Store, claim: Claim, offers: &[Complete]) -> Result<Ownership, StoreError> {
    for complete in offers {
        if store.complete(complete).await? == Ownership::Held {
            return Ok(Ownership::Held);
        }
    }
    match offers {
        [first, ..] => insist(store, claim, first).await,
        [] => Ok(Ownership::Lost),
    }
}

/// Only a first attempt leaves nothing behind: what an earlier one may have done must not look as if it had never been tried.
///
/// The claim tells which attempt it is when it is asked for once more. Not before a renewal has found that it was won: it would take
/// over what somebody runs under a lease that ran out, this process perhaps.
async fn give_back(store: &dyn Store, perhaps: &Perhaps) -> Result<Ownership, StoreError> {
    let Perhaps { claim, remember, .. } = *perhaps;
    let mut release = Release::new(claim.key, claim.token);
    if store.renew(Renew::of(&claim)).await? == Ownership::Held
        && !matches!(store.claim(claim).await?, Claimed::Won { attempt: 1, .. })
    {
        release = release.remember(remember);
    }
    store.release(release).await
}

/// Takes the key again with the same token where the record is gone, and completes that: the effect is a fact, so a store
/// that lost its memory must learn of it before anybody runs it again. Lost: somebody else has the key.
pub(crate) async fn insist(store: &dyn Store, claim: Claim, complete: &Complete) -> Result<Ownership, StoreError> {
    match store.claim(claim).await? {
        Claimed::Won { .. } => store.complete(complete).await,
        _ => Ok(Ownership::Lost),
    }
}

/// What is kept of an outcome for whose bytes there is no room. A parked event did not come to an end: remembered as one that ran it
/// would be acknowledged, and lost. As unknown it is parked by whoever is given it next, and has the event to do so.
fn without_bytes(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answer(_) | Outcome::Tombstone => Outcome::Tombstone,
        Outcome::Parked(_) | Outcome::Unknown => Outcome::Unknown,
    }
}

fn answer_bytes(complete: &Complete) -> usize {
    match &complete.outcome {
        Outcome::Answer(answer) | Outcome::Parked(answer) => answer.len(),
        Outcome::Tombstone | Outcome::Unknown => 0,
    }
}
