//! Outcomes that nobody can tell, and who settles them.

use std::time::Instant;

use crate::{
    conformance::{Fixture, case::*},
    record::Answer,
    store::{Claimed, Complete, Fence, Outcome, Ownership, Resolve, Resolved, Verdict},
};

/// A panic in the middle of a payment: whoever asks next is told that nobody knows, never that nothing happened.
pub async fn a_completion_can_be_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.abandoned_by(token()).await;
    let owner = case.unknown_by(token()).await;
    require_eq!(owner.attempt, 2, "a take-over is the next attempt");
    case.require_unknown(owner, "the owner said that the outcome is unknown").await;
    case.elsewhere().await.require_unknown(owner, "unknown elsewhere too").await;
}

/// The reply to it can be lost like any other.
pub async fn an_unknown_completion_asked_again_is_held(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let token = token();
    let owner = case.unknown_by(token).await;
    require_eq!(case.complete(token, Outcome::Unknown).await, Ownership::Held, "an unknown completion asked again");
    case.require_unknown(owner, "asked again it changes nothing").await;
}

/// Time settles nothing: an unknown payment that became absent would be charged again.
pub async fn unknown_outlives_every_time(fixture: &dyn Fixture) {
    // On a machine on which lease and retention are over before the outcome is told, it is asked again.
    for _ in 0..20 {
        let case = Case::new(fixture).await;
        let token = token();
        let claimed = Instant::now();
        let owner = case.win(case.briefly(token).retention(Some(BRIEF))).await;
        let unknown = Complete::new(case.key, token, Outcome::Unknown, BRIEF);
        if case.complete_as(unknown).await == Ownership::Held {
            case.pass(4 * BRIEF).await;
            return case.require_unknown(owner, "past lease, retention, `ttl` and `remember`").await;
        }
        require!(claimed.elapsed() >= 2 * BRIEF, "the owner says within its lease that the outcome is unknown");
    }
    panic!("the store failed: it never took less than {:?} for a claim and a completion", 2 * BRIEF);
}

/// Who said that nobody can tell may say so again, but may not run again.
pub async fn unknown_is_unknown_to_its_owner_too(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let token = token();
    let Won { fence, attempt } = case.unknown_by(token).await;
    require_eq!(case.claim(case.by(token)).await, Claimed::Unknown { fence, attempt }, "the owner claims again");
}

/// An owner that was thought dead knows best: its late answer is the truth, and ends the question.
pub async fn the_owner_may_still_complete_what_is_unknown(fixture: &dyn Fixture) {
    for outcome in [Outcome::Answer(answer("late")), Outcome::Tombstone] {
        let case = Case::new(fixture).await;
        let token = token();
        case.unknown_by(token).await;
        require_eq!(
            case.complete(token, outcome.clone()).await,
            Ownership::Held,
            "the owner completes what is unknown"
        );
        let answer = if let Outcome::Answer(answer) = &outcome { Some(answer) } else { None };
        case.require_completed(answer, "the owner's word is recorded").await;
    }
}

/// As completing: the owner knows that nothing happened.
pub async fn the_owner_may_still_release_what_is_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let token = token();
    let owner = case.unknown_by(token).await;
    require_eq!(case.release(token).await, Ownership::Held, "the owner releases what is unknown");
    case.require_absent_after(owner, "released").await;
}

/// Whoever merely met an unknown record has no say in it.
pub async fn a_stranger_cannot_settle_what_is_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.unknown_by(token()).await;
    let stranger = token();
    let forged = Outcome::Answer(answer("forged"));
    require_eq!(case.complete(stranger, forged).await, Ownership::Lost, "a stranger completes what is unknown");
    require_eq!(case.release(stranger).await, Ownership::Lost, "a stranger releases what is unknown");
    require_eq!(case.renew(case.by(stranger)).await, Ownership::Lost, "a stranger renews what is unknown");
    case.require_unknown(owner, "a stranger changes nothing").await;
}

/// An operator found the payment: from then on every retry gets its answer.
pub async fn resolved_with_an_answer_it_is_replayed(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.unknown_by(token()).await;
    let answer = answer("found");
    let resolve = Resolve::new(case.key, ran(Some(answer.clone()))).fence(owner.fence);
    require_eq!(case.resolve_as(resolve).await, Resolved::Applied, "a verdict on the unknown record's own fence");
    case.require_completed(Some(&answer), "the verdict's answer is replayed").await;
}

/// An operator found the payment, but not what was answered.
pub async fn resolved_without_an_answer_it_is_a_tombstone(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.unknown_by(token()).await;
    require_eq!(case.resolve(ran(None)).await, Resolved::Applied, "a verdict on whichever fence");
    case.require_completed(None, "it ran, and its answer is not kept").await;
}

/// A verdict is kept as long as an answer would be, from when it was given.
pub async fn a_resolution_counts_its_times_from_now(fixture: &dyn Fixture) {
    let (tombstone, absent) = (Case::new(fixture).await, Case::new(fixture).await);
    let mut owners = Vec::new();
    for (case, remember) in [(&tombstone, LONG), (&absent, BRIEF)] {
        owners.push(case.unknown_by(token()).await);
        let verdict = Verdict::Completed { answer: Some(answer("briefly")), ttl: BRIEF, remember };
        require_eq!(case.resolve(verdict).await, Resolved::Applied, "a verdict on an unknown record");
    }
    tombstone.pass_brief().await;
    tombstone.require_completed(None, "past the verdict's `ttl`").await;
    absent.require_absent_after(owners[1], "past the verdict's `remember`").await;
}

/// An operator found that nothing was charged: a retry runs, and what the first owner still writes can be told by its
/// smaller fence.
pub async fn resolved_as_not_executed_it_is_absent(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.unknown_by(token()).await;
    require_eq!(case.resolve(Verdict::NotExecuted).await, Resolved::Applied, "a verdict on an unknown record");
    case.require_absent_after(owner, "it did not run").await;
}

/// A verdict is about the run it was asked about; that of an earlier one must not settle a later one.
pub async fn a_verdict_on_another_fence_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let earlier = case.abandoned_by(token()).await;
    let owner = case.unknown_by(token()).await;
    for verdict in [Verdict::NotExecuted, ran(None)] {
        let resolve = Resolve::new(case.key, verdict).fence(earlier.fence);
        require_eq!(case.resolve_as(resolve).await, Resolved::NotUnknown, "a verdict on an earlier fence");
        case.require_unknown(owner, "a verdict on another fence changes nothing").await;
    }
    let resolve = Resolve::new(case.key, Verdict::NotExecuted).fence(owner.fence);
    require_eq!(case.resolve_as(resolve).await, Resolved::Applied, "a verdict on the record's fence");
}

/// Somebody runs, and will tell by itself.
pub async fn a_verdict_on_what_is_in_flight_changes_nothing(fixture: &dyn Fixture) {
    for verdict in [Verdict::NotExecuted, ran(None)] {
        let case = Case::new(fixture).await;
        let token = token();
        let owner = case.win(case.by(token)).await;
        require_eq!(case.resolve(verdict.clone()).await, Resolved::NotUnknown, "a verdict on what is in flight");
        let resolve = Resolve::new(case.key, verdict).fence(owner.fence);
        require_eq!(
            case.resolve_as(resolve).await,
            Resolved::NotUnknown,
            "a verdict on what is in flight, by its fence"
        );
        case.require_busy("a verdict on what is in flight changes nothing").await;
        require_eq!(case.renew(case.by(token)).await, Ownership::Held, "the owner is still the owner");
    }
}

/// An abandoned record is not unknown until a claim made it so: its owner may be about to tell.
pub async fn a_verdict_on_what_is_abandoned_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.abandoned_by(token()).await;
    for verdict in [Verdict::NotExecuted, ran(None)] {
        require_eq!(case.resolve(verdict).await, Resolved::NotUnknown, "a verdict on what is abandoned");
    }
    require_eq!(case.win(case.by(token())).await.attempt, 2, "the record is still abandoned");
}

/// Where an abandoned record must be settled it is unknown though nobody has asked: nobody may ever ask, or only with another request.
pub async fn a_verdict_settles_what_is_abandoned_and_must_be_settled(fixture: &dyn Fixture) {
    for is_renewed in [false, true] {
        for (verdict, runs) in [(Verdict::NotExecuted, true), (ran(None), false)] {
            let (case, owner) = (Case::new(fixture).await, token());
            let abandoned = case.kept_by(owner, is_renewed).await;
            let earlier = Fence::new(abandoned.fence.get() - 1);
            let earlier = Resolve::new(case.key, verdict.clone()).fence(earlier);
            require_eq!(case.resolve_as(earlier).await, Resolved::NotUnknown, "a verdict on an earlier fence");
            let resolve = Resolve::new(case.key, verdict).fence(abandoned.fence);
            require_eq!(case.resolve_as(resolve).await, Resolved::Applied, "a verdict on the record's fence");
            require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Lost, "it is nobody's by now");
            if runs {
                case.require_absent_after(abandoned, "it did not run").await;
            } else {
                case.require_completed(None, "it ran, and its answer is not kept").await;
            }
        }
    }
}

/// Its owner runs, and will tell by itself.
pub async fn a_verdict_on_what_is_alive_and_must_be_settled_changes_nothing(fixture: &dyn Fixture) {
    for verdict in [Verdict::NotExecuted, ran(None)] {
        let (case, owner) = (Case::new(fixture).await, token());
        case.win(case.by(owner).retention(None)).await;
        require_eq!(case.resolve(verdict).await, Resolved::NotUnknown, "a verdict on what is in flight");
        case.require_busy("a verdict on what is in flight changes nothing").await;
        require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "the owner is still the owner");
    }
}

/// A recorded answer is final for operators too.
pub async fn a_verdict_on_what_is_completed_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (first, outcome) = answer_of("first");
    case.completed_by(token(), outcome).await;
    for verdict in [Verdict::NotExecuted, ran(None), ran(Some(answer("second")))] {
        require_eq!(case.resolve(verdict).await, Resolved::NotUnknown, "a verdict on what is completed");
        case.require_completed(Some(&first), "a verdict on what is completed changes nothing").await;
    }
}

/// A verdict brings nothing into being.
pub async fn a_verdict_on_what_is_absent_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    for verdict in [Verdict::NotExecuted, ran(Some(answer("from nothing")))] {
        require_eq!(case.resolve(verdict).await, Resolved::NotUnknown, "a verdict on what is absent");
    }
    require_eq!(case.win(case.by(token())).await.attempt, 1, "a verdict on what is absent changes nothing");
}

/// Once settled by somebody else, the record is not the late owner's: were its completion held, its client would be
/// given one answer and every retry another.
pub async fn what_is_resolved_is_no_longer_its_owners(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let token = token();
    case.unknown_by(token).await;
    let found = answer("found");
    require_eq!(case.resolve(ran(Some(found.clone()))).await, Resolved::Applied, "a verdict on an unknown record");
    let late = Outcome::Answer(answer("late"));
    require_eq!(case.complete(token, late).await, Ownership::Lost, "the owner completes what was resolved");
    require_eq!(case.release(token).await, Ownership::Lost, "the owner releases what was resolved");
    case.require_completed(Some(&found), "the verdict stands").await;
}

fn ran(answer: Option<Answer>) -> Verdict {
    Verdict::Completed { answer, ttl: LONG, remember: LONG }
}
