//! One operation from its claim to its record.

use std::future::Future;

use tokio::time::Instant;

use super::{
    CatchPanic, Engine, Granted, HeldLease, Operation, Permit, RUNS_HERE, Ran, Refusal, Settled, Unanswered,
    aftermath::insist,
    attempt::NO_FENCE,
    span::{note_attempt, note_outcome},
    step::{Closing, ask_again, known, until_answered},
};
use crate::{
    policy::{OnAbandoned, OnStoreError},
    store::{Claim, Claimed, Complete, Fence, Outcome, Ownership, Release, StoreError, StoreErrorKind, Token},
};

/// An operation under way: who claims it, and the effect until it runs.
///
/// In one place, which the steps borrow: a step that were given its parts would keep the room they came in beside what it makes of
/// them, and every operation would carry them three times, in a block too large for the allocator's quick path.
pub(super) struct Claiming<F> {
    engine: Permit,
    operation: Operation,
    token: Token,
    /// When the claim was asked for: its lease is counted from then.
    asked: Instant,
    /// Of a claim that was won before its turn came.
    lease: Option<HeldLease>,
    /// Taken when it runs.
    effect: Option<F>,
}

/// Where one turn of [`Engine::run`] ended.
pub(super) enum Turn<T, F> {
    Over(Result<Ran<T>, Refusal>),
    /// Somebody else runs, or too many do; the effect is given back for the next turn.
    Busy(F, Refusal),
}

/// Why the store does not have what an effect came to.
enum Unrecorded {
    /// Somebody else owns the operation by now.
    Stale,
    /// It is offered again.
    Failed(StoreErrorKind),
}

impl<F> Claiming<F> {
    pub(super) fn new(engine: &Engine, operation: &Operation, effect: F) -> Self {
        Self::by(Token::fresh(), None, Permit::outside(engine), operation, effect)
    }

    /// Of a claim that was asked for already.
    pub(super) fn by(token: Token, lease: Option<HeldLease>, engine: Permit, operation: &Operation, effect: F) -> Self {
        Self { engine, operation: *operation, token, asked: Instant::now(), lease, effect: Some(effect) }
    }

    /// What the turn came to.
    pub(super) fn turn<T>(self, ran: Result<Ran<T>, Refusal>) -> Turn<T, F> {
        // Before an effect that was not wanted, which may take its time to go.
        drop(self.engine);
        match (ran, self.effect) {
            (Err(refusal @ (Refusal::InFlight { .. } | Refusal::Overloaded)), Some(effect)) => {
                Turn::Busy(effect, refusal)
            }
            (ran, _) => {
                note_outcome(&ran);
                Turn::Over(ran)
            }
        }
    }

    fn claim(&self) -> Claim {
        self.operation.claim_by(self.token)
    }
}

impl<F, Fut, T> Claiming<F>
where
    F: FnOnce(Granted<'_>) -> Fut,
    Fut: Future<Output = Settled<T>>,
{
    pub(super) async fn claim_and_run(&mut self) -> Result<Ran<T>, Refusal> {
        if !self.engine.enter() {
            return Err(Refusal::Overloaded);
        }
        if let Some(known) = self.engine.known_here(&self.operation, self.asked) {
            return known;
        }
        let claimed = self.engine.claim(&self.claim(), self.asked).await;
        self.go_on(claimed).await
    }

    /// What follows from the answer to the claim.
    pub(super) async fn go_on(&mut self, mut claimed: Result<Claimed, Unanswered>) -> Result<Ran<T>, Refusal> {
        if let Ok(claimed) = &claimed
            && let Some(owner) = self.engine.owner_here(&self.operation.key, self.token, claimed)
        {
            return Box::pin(self.give_back(owner, claimed.clone())).await;
        }
        if let (Ok(Claimed::Unknown { fence, attempt }), OnAbandoned::Recover(ask)) =
            (&claimed, self.operation.terms.on_abandoned)
            && Box::pin(self.engine.recover(self.engine.store(), &self.operation, ask, *fence, *attempt)).await?
        {
            self.asked = Instant::now();
            claimed = self.engine.claim(&self.claim(), self.asked).await;
        }
        let (fence, attempt) = match won(claimed) {
            Ok(won) => won,
            Err(Ok(claimed)) => return known(&self.operation.key, claimed),
            // In a box, as all that is rare: every operation would carry the room for it.
            Err(Err(unanswered)) => return Box::pin(self.unanswered(unanswered)).await,
        };
        self.run_won(fence, attempt).await
    }

    /// Nobody could be asked for the claim.
    async fn unanswered(&mut self, Unanswered { error, taken_perhaps }: Unanswered) -> Result<Ran<T>, Refusal> {
        self.engine.0.counters.store_errors.add();
        tracing::warn!(key = %self.operation.key, %error, "claim failed");
        match self.operation.terms.on_store_error {
            OnStoreError::Reject => {
                if taken_perhaps {
                    // It may be ours without our knowing. Nothing ran, so it must not look as if something might have.
                    self.engine.0.aftermath.give_back(self.claim(), self.operation.terms.remember);
                }
                Err(Refusal::unavailable(error.kind()))
            }
            OnStoreError::Run => self.run_unguarded(taken_perhaps, error.kind()).await,
        }
    }

    /// What was taken over is claimed for its owner again, who renews and completes it. What is unknown it completes as that.
    async fn give_back(&mut self, owner: Token, claimed: Claimed) -> Result<Ran<T>, Refusal> {
        tracing::warn!(key = %self.operation.key, "the store took an operation for abandoned that runs in this process");
        drop(self.lease.take());
        if let Claimed::Won { attempt, .. } = claimed {
            let release = Release::new(self.operation.key, self.token);
            // A key that is free is claimed as the first attempt, which the owner's was, unless this is a later one.
            let release = if attempt > 2 { release.remember(self.operation.terms.remember) } else { release };
            if self.engine.release(&release).await {
                self.engine.claim_for(owner, &self.operation).await;
            }
        }
        Err(RUNS_HERE)
    }

    async fn run_won(&mut self, fence: Fence, attempt: u32) -> Result<Ran<T>, Refusal> {
        let lease = match self.lease.take() {
            Some(lease) => lease,
            None => self.engine.hold(&self.claim(), &self.operation.terms, self.asked),
        };
        let ended = self.start(fence, attempt).await;
        let (result, recording) = self.engine.count(ended);
        let mut closing = self.operation.close(self.token, recording);
        let unrecorded = match &mut closing {
            Closing::Complete(complete) => match self.complete(complete).await {
                // Before those who wait are woken: what they find is not taken for something that runs here.
                Ok(Ownership::Held) => {
                    drop(lease);
                    None
                }
                Ok(Ownership::Lost) => {
                    drop(lease);
                    self.engine.was_stale(&self.operation.key);
                    Some(Unrecorded::Stale)
                }
                Err(error) => {
                    // Not the caller's trouble: the effect is a fact by now.
                    self.engine.keep_offering(self.claim(), complete.clone(), lease, &error);
                    Some(Unrecorded::Failed(error.kind()))
                }
            },
            Closing::Release(release) => {
                // Nobody runs it any more: whoever claims it from now on has not taken it over.
                drop(lease);
                self.engine.release(release).await;
                None
            }
        };
        self.engine.0.waiters.wake(&self.operation.key);
        match (closing.parks(), unrecorded) {
            (true, None) => self.engine.0.counters.parked.add(),
            // Whoever hears that it is parked forgets it: not before the store has it.
            (true, Some(Unrecorded::Stale)) => return Err(Refusal::unavailable(StoreErrorKind::Conflict)),
            (true, Some(Unrecorded::Failed(kind))) => return Err(Refusal::unavailable(kind)),
            (false, Some(Unrecorded::Stale)) => return result.map(stale),
            (false, _) => {}
        }
        result
    }

    /// What the store does not take at once is asked again; what it has no room for is recorded without its answer; what it has
    /// lost is claimed once more.
    async fn complete(&mut self, complete: &mut Complete) -> Result<Ownership, StoreError> {
        match self.engine.store().complete(complete).await {
            Ok(Ownership::Held) => Ok(Ownership::Held),
            // In a box, as all that is rare.
            completed => Box::pin(self.complete_again(complete, completed)).await,
        }
    }

    async fn complete_again(
        &mut self,
        complete: &mut Complete,
        mut completed: Result<Ownership, StoreError>,
    ) -> Result<Ownership, StoreError> {
        let store = self.engine.store();
        if let Err(error) = completed {
            completed = until_answered(|| store.complete(complete), error, &mut false).await;
        }
        if matches!(&completed, Err(error) if error.kind() == StoreErrorKind::Full)
            && matches!(complete.outcome, Outcome::Answer(_))
        {
            complete.outcome = Outcome::Tombstone;
            completed = store.complete(complete).await;
        }
        match completed {
            Ok(Ownership::Lost) => insist(store, self.claim(), complete).await,
            completed => completed,
        }
    }

    /// `on_store_error = run`: the effect runs although nobody could be asked, and is recorded once somebody can. A claim that
    /// may have been won protects it meanwhile.
    async fn run_unguarded(&mut self, taken_perhaps: bool, kind: StoreErrorKind) -> Result<Ran<T>, Refusal> {
        self.engine.0.counters.unguarded.add();
        let (claim, terms) = (self.claim(), &self.operation.terms);
        let lease = taken_perhaps.then(|| self.engine.hold(&claim, terms, Instant::now()));
        let ended = self.start(NO_FENCE, 1).await;
        let (result, recording) = self.engine.count(ended);
        let closing = self.operation.close(self.token, recording);
        let parks = closing.parks();
        match closing {
            Closing::Complete(complete) => self.engine.0.aftermath.complete(self.claim(), complete, lease),
            Closing::Release(release) if taken_perhaps => self.engine.0.aftermath.withdraw(release),
            Closing::Release(_) => {}
        }
        self.engine.0.waiters.wake(&self.operation.key);
        if parks { Err(Refusal::unavailable(kind)) } else { result }
    }

    /// Calls the effect: once, as a claim is won once.
    fn start(&mut self, fence: Fence, attempt: u32) -> CatchPanic<Fut> {
        let Some(effect) = self.effect.take() else { unreachable!("a claim runs one effect") };
        note_attempt(attempt);
        let granted = Granted::new(&self.engine, &self.claim(), fence, attempt);
        CatchPanic::call(|| effect(granted))
    }
}

impl Engine {
    /// Claims an operation for its owner in this process again.
    async fn claim_for(&self, owner: Token, operation: &Operation) {
        let (key, claim, mut taken_perhaps) = (operation.key, operation.claim_by(owner), false);
        match ask_again(|| self.store().claim(claim), &mut taken_perhaps).await {
            Ok(Claimed::Won { .. }) => self.0.leases.claimed_again(&key, owner),
            // Its completion claims it once more.
            Ok(_) => tracing::warn!(%key, "somebody else has taken over an operation that runs in this process"),
            Err(error) => {
                tracing::warn!(%key, %error, "the operation may be without a claim until it is completed");
                if taken_perhaps {
                    // A renewal finds out.
                    self.0.leases.claimed_again(&key, owner);
                }
            }
        }
    }
}

fn stale<T>(ran: Ran<T>) -> Ran<T> {
    match ran {
        Ran::Fresh(value) => Ran::Stale(value),
        other => other,
    }
}

/// Fence and attempt of a claim that was won, or what else became of it. Taken apart here, so that no effect is run with room
/// for the answer to its claim.
fn won(claimed: Result<Claimed, Unanswered>) -> Result<(Fence, u32), Result<Claimed, Unanswered>> {
    match claimed {
        Ok(Claimed::Won { fence, attempt }) => Ok((fence, attempt)),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
