//! Many operations whose claims go to the store together.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span};

use super::{
    Claiming, Engine, Granted, Operation, Ran, Refusal, Settled, Turn, Unanswered, detach::Detached, is_in_time,
    lease::HeldLease, span::note_outcome, step::ASK_AGAIN, tracker::Permit,
};
use crate::store::{Claim, Claimed, Renew, StoreError, StoreErrorKind};

/// Of an operation whose claim the store did not answer, which cannot be: each is asked for by itself then.
const LEFT_OUT: Refusal = Refusal::unavailable(StoreErrorKind::Unavailable);

/// One operation on its way through a batch.
struct Item<T, F> {
    place: usize,
    operation: Operation,
    span: Span,
    step: Step<T, F>,
}

enum Step<T, F> {
    /// Decided without the store.
    Over(Result<Ran<T>, Refusal>),
    /// This process runs it, as far as it knows.
    Busy(F, Refusal),
    /// To be claimed.
    Claim(Claim, Permit, F),
    /// Claimed; a lease is held while the effect waits for its turn.
    Claimed { claim: Claim, permit: Permit, effect: F, claimed: Result<Claimed, Unanswered>, lease: Option<HeldLease> },
}

impl Engine {
    /// As [`run`](super::Engine::run) for each, their claims in one round trip and at most `at_once` effects beside each
    /// other. The keys differ. Answers in the order of the operations.
    pub(crate) async fn run_many<T, F, Fut>(
        &self,
        operations: Vec<(Operation, F)>,
        at_once: usize,
    ) -> Vec<Result<Ran<T>, Refusal>>
    where
        T: Send + 'static,
        F: FnOnce(Granted<'_>) -> Fut + Send + 'static,
        Fut: Future<Output = Settled<T>> + Send + 'static,
    {
        let items: Vec<Item<T, F>> = operations
            .into_iter()
            .enumerate()
            .map(|(place, (operation, effect))| self.enter(place, operation, effect))
            .collect();
        let engine = self.clone();
        let tracked = async move { engine.claim_and_run_many(items, at_once).await };
        let taken = Detached::new(tracked, self).await;
        let waits = taken.into_iter().map(|(place, operation, span, turn)| {
            let engine = self.clone();
            let waiting = async move {
                let ran = engine.wait(&operation, turn, |effect| engine.turn(&operation, effect)).await;
                engine.answered(&ran);
                (place, ran)
            };
            waiting.instrument(span)
        });
        let mut ran: Vec<_> = stream::iter(waits).buffer_unordered(at_once).collect().await;
        ran.sort_unstable_by_key(|(place, _)| *place);
        ran.into_iter().map(|(_, ran)| ran).collect()
    }

    fn enter<T, F>(&self, place: usize, operation: Operation, effect: F) -> Item<T, F> {
        let step = match (self.known_here(&operation, Instant::now()), Permit::inside(self)) {
            (Some(Err(refusal @ Refusal::InFlight { .. })), _) => Step::Busy(effect, refusal),
            (Some(known), _) => Step::Over(known),
            (None, None) => Step::Over(Err(Refusal::Overloaded)),
            (None, Some(permit)) => Step::Claim(operation.claim(), permit, effect),
        };
        Item { place, operation, span: operation.span(), step }
    }

    async fn claim_and_run_many<T, F, Fut>(
        self,
        mut items: Vec<Item<T, F>>,
        at_once: usize,
    ) -> Vec<(usize, Operation, Span, Turn<T, F>)>
    where
        F: FnOnce(Granted<'_>) -> Fut,
        Fut: Future<Output = Settled<T>>,
    {
        let claims: Vec<Claim> = items.iter().filter_map(|item| item.step.claim()).collect();
        // Their leases are counted from here, whenever each was granted.
        let asked = Instant::now();
        let mut answers = self.claim_many(&claims).await.into_iter();
        for item in &mut items {
            item.step = match std::mem::replace(&mut item.step, Step::Over(Err(LEFT_OUT))) {
                Step::Claim(claim, permit, effect) => match answers.next() {
                    None => continue,
                    Some(claimed) => {
                        let lease = self.hold_if_won(&claim, &claimed, asked);
                        Step::Claimed { claim, permit, effect, claimed, lease }
                    }
                },
                decided => decided,
            };
        }
        let turns = items.into_iter().map(|Item { place, operation, span, step }| {
            let turning = async move {
                match step {
                    // Said once nobody waits for another turn.
                    Step::Over(ran @ Err(Refusal::InFlight { .. } | Refusal::Overloaded)) => Turn::Over(ran),
                    Step::Over(ran) => {
                        note_outcome(&ran);
                        Turn::Over(ran)
                    }
                    Step::Busy(effect, refusal) => Turn::Busy(effect, refusal),
                    // Never: each was claimed above.
                    Step::Claim(..) => Turn::Over(Err(LEFT_OUT)),
                    Step::Claimed { claim, permit, effect, mut claimed, mut lease } => {
                        let now = Instant::now();
                        // It may be somebody else's by now: the claim tells, and the lease stays held until it has.
                        if lease.as_ref().is_some_and(|lease| !lease.is_sure(now)) {
                            claimed = permit.claim_once_more(&claim, now, true).await;
                            lease = permit.hold_if_won(&claim, &claimed, now);
                        }
                        if let Some(lease) = &lease {
                            lease.runs_from(now, operation.terms.renew_for);
                        }
                        let mut claiming = Claiming::by(claim.token, lease, permit, &operation, effect);
                        let ran = claiming.go_on(claimed).await;
                        claiming.turn(ran)
                    }
                }
            };
            let turning = turning.instrument(span.clone());
            async move { (place, operation, span, turning.await) }
        });
        stream::iter(turns).buffer_unordered(at_once).collect().await
    }

    /// Renewed for as long as it is held: what waits for its turn does not hang.
    fn hold_if_won(&self, claim: &Claim, claimed: &Result<Claimed, Unanswered>, asked: Instant) -> Option<HeldLease> {
        matches!(claimed, Ok(Claimed::Won { .. })).then(|| self.0.leases.hold(Renew::of(claim), asked, None))
    }

    /// As [`claim`](super::Engine::claim) for each: those without an answer are asked again together.
    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, Unanswered>> {
        let mut asked: Vec<Asked> =
            claims.iter().map(|claim| Asked { claim: *claim, heard: Heard::Nothing, taken_perhaps: false }).collect();
        let mut deadline = None;
        let mut pause = Duration::from_millis(5);
        loop {
            let open: Vec<Claim> = asked.iter().filter(|asked| asked.is_open()).map(|asked| asked.claim).collect();
            let began = Instant::now();
            let answers = match deadline {
                None => Ok(self.0.store.claim_many(&open).await),
                Some(deadline) => timeout_at(deadline, self.0.store.claim_many(&open)).await,
            };
            let mut answers = answers.map(Vec::into_iter);
            for asked in asked.iter_mut().filter(|asked| asked.is_open()) {
                match &mut answers {
                    Ok(answers) => asked.hear(answers.next(), began),
                    Err(_) => asked.taken_perhaps = true,
                }
            }
            if !asked.iter().any(Asked::is_open) {
                break;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + ASK_AGAIN);
            if timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
                break;
            }
            pause *= 3;
        }
        let mut answers = Vec::with_capacity(asked.len());
        for Asked { claim, heard, taken_perhaps } in asked {
            answers.push(match heard {
                Heard::Claimed(claimed) => Ok(claimed),
                Heard::Failed(error) => Err(Unanswered { error, taken_perhaps }),
                Heard::TooLate => self.claim_once_more(&claim, Instant::now(), true).await,
                Heard::Nothing => self.claim_once_more(&claim, Instant::now(), taken_perhaps).await,
            });
        }
        answers
    }
}

/// One claim of a batch, and what the store said of it.
struct Asked {
    claim: Claim,
    heard: Heard,
    taken_perhaps: bool,
}

enum Heard {
    Nothing,
    Claimed(Claimed),
    /// It was won, but half of the lease it grants is over.
    TooLate,
    Failed(StoreError),
}

impl Asked {
    /// Whether it is worth asking again.
    fn is_open(&self) -> bool {
        match &self.heard {
            Heard::Nothing => true,
            Heard::Claimed(_) | Heard::TooLate => false,
            Heard::Failed(error) => !matches!(error.kind(), StoreErrorKind::Full | StoreErrorKind::Misconfigured),
        }
    }

    fn hear(&mut self, answer: Option<Result<Claimed, StoreError>>, began: Instant) {
        self.heard = match answer {
            None => return,
            Some(Ok(claimed)) if is_in_time(&self.claim, began, &claimed) => Heard::Claimed(claimed),
            Some(Ok(_)) => Heard::TooLate,
            Some(Err(error)) => {
                self.taken_perhaps |= error.kind() == StoreErrorKind::Unavailable;
                Heard::Failed(error)
            }
        };
    }
}

impl<T, F> Step<T, F> {
    const fn claim(&self) -> Option<Claim> {
        match self {
            Self::Claim(claim, ..) => Some(*claim),
            Self::Over(_) | Self::Busy(..) | Self::Claimed { .. } => None,
        }
    }
}
