//! Records that somebody wants forgotten. A store that has no such step says so, and keeps these laws by that.

use futures_util::future::{join, join_all};

use crate::{
    conformance::{Fixture, case::*},
    store::{Claimed, Forgotten, Outcome, Ownership},
};

/// An operator takes back an answer that should not have been kept: the next request runs, as if for the first time.
pub async fn what_is_completed_is_forgotten(fixture: &dyn Fixture) {
    for outcome in [Outcome::Answer(answer("kept by mistake")), Outcome::Tombstone] {
        let case = Case::new(fixture).await;
        let owner = case.completed_by(token(), outcome).await;
        let Some(forgotten) = case.forget().await else { return };
        require_eq!(forgotten, Forgotten::Done, "what is completed is forgotten");
        case.elsewhere().await.require_absent_after(owner, "forgotten").await;
    }
}

/// Whoever runs, or may still run, must not find somebody else beside it.
pub async fn what_is_in_flight_is_not_forgotten(fixture: &dyn Fixture) {
    for is_alive in [true, false] {
        let case = Case::new(fixture).await;
        let owner = token();
        match is_alive {
            true => case.win(case.by(owner)).await,
            false => case.abandoned_by(owner).await,
        };
        let Some(forgotten) = case.forget().await else { return };
        require_eq!(forgotten, Forgotten::InFlight, "in flight, lease alive: {is_alive}");
        require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "its owner is still its owner");
        case.require_completed(None, "what was in flight was left alone").await;
    }
}

/// An unknown payment is settled by somebody who knows, not by forgetting that nobody does.
pub async fn what_is_unknown_or_parked_is_not_forgotten(fixture: &dyn Fixture) {
    let (unknown, parked, note) = (Case::new(fixture).await, Case::new(fixture).await, answer("why"));
    let (lost, waits) = (unknown.unknown_by(token()).await, parked.parked_by(token(), &note).await);
    for case in [&unknown, &parked] {
        let Some(forgotten) = case.forget().await else { return };
        require_eq!(forgotten, Forgotten::Unknown, "what is unknown or parked is settled, not forgotten");
    }
    let abandoned = Case::new(fixture).await;
    let kept = abandoned.kept_by(token(), false).await;
    require_eq!(abandoned.forget().await, Some(Forgotten::Unknown), "what must be settled is settled, not forgotten");
    abandoned.require_unknown(kept, "what must be settled was left alone").await;
    unknown.require_unknown(lost, "what is unknown was left alone").await;
    parked.require_parked(waits, &note, "what is parked was left alone").await;
}

/// Nobody runs it, and nothing of it is left.
pub async fn a_remembered_attempt_is_forgotten(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.remembered_by(token()).await;
    let Some(forgotten) = case.forget().await else { return };
    require_eq!(forgotten, Forgotten::Done, "an attempt that is remembered is forgotten");
    case.require_absent_after(owner, "the attempt is forgotten").await;
}

/// Asked twice, or of a key that never was, it says that there is nothing.
pub async fn what_is_absent_is_not_forgotten(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let Some(forgotten) = case.forget().await else { return };
    require_eq!(forgotten, Forgotten::Absent, "a key that was never used");
    case.completed_by(token(), Outcome::Tombstone).await;
    require_eq!(case.forget().await, Some(Forgotten::Done), "what is completed is forgotten");
    require_eq!(case.forget().await, Some(Forgotten::Absent), "what is forgotten is absent");
}

/// What the handler writes to can still tell a late owner from the next one.
pub async fn fences_grow_after_every_forgotten_record(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let mut last = case.completed_by(token(), Outcome::Tombstone).await;
    for _ in 0..50 {
        let Some(forgotten) = case.forget().await else { return };
        require_eq!(forgotten, Forgotten::Done, "what is completed is forgotten");
        let owner = token();
        let next = case.win(case.by(owner)).await;
        require_grown(last.fence, next.fence);
        require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "the owner completes");
        last = next;
    }
}

/// A completion that comes once more does not bring back what was forgotten, nor end what runs since.
pub async fn what_is_forgotten_is_no_longer_its_owners(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.completed_by(owner, Outcome::Answer(answer("forgotten"))).await;
    if case.forget().await.is_none() {
        return;
    }
    let again = Outcome::Answer(answer("forgotten"));
    require_eq!(case.complete(owner, again.clone()).await, Ownership::Lost, "a completion of what is forgotten");
    case.win(case.by(token())).await;
    require_eq!(case.complete(owner, again).await, Ownership::Lost, "a completion by whose record is forgotten");
    case.require_busy("the next owner runs").await;
}

/// Two operators at once, and the retry that one of them makes room for.
pub async fn a_record_is_forgotten_once_and_never_the_next_run(fixture: &dyn Fixture) {
    for _ in 0..10 {
        let case = Case::new(fixture).await;
        case.completed_by(token(), Outcome::Tombstone).await;
        let cases: Vec<_> = join_all((0..4).map(|_| case.elsewhere())).await;
        let forgetting = join_all(cases[..2].iter().map(Case::forget));
        let (forgotten, claimed) = join(forgetting, join_all(cases[2..].iter().map(Case::look))).await;
        let Some(forgotten) = forgotten.into_iter().collect::<Option<Vec<_>>>() else { return };
        let done = forgotten.iter().filter(|forgotten| **forgotten == Forgotten::Done).count();
        require_eq!(done, 1, "of two that forget one record one does: {forgotten:?}");
        let won = claimed.iter().filter(|claimed| matches!(claimed, Claimed::Won { .. })).count();
        require!(won <= 1, "one record was forgotten, and {won} ran");
    }
}
