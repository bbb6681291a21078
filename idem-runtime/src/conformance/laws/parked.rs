//! Records that are put aside for an operator.

use std::time::Instant;

use crate::{
    conformance::{Fixture, case::*},
    record::Answer,
    store::{Claim, Claimed, Complete, Outcome, Ownership, Resolve, Resolved, Verdict},
};

/// An event that failed too often is not run again, and whoever meets it is told why.
pub async fn a_parked_record_says_why(fixture: &dyn Fixture) {
    for note in
        [answer("the card\0was \u{1f4b3} refused"), answer([0, 159, 146, 150]), answer([]), answer(random::<20_000>())]
    {
        let case = Case::new(fixture).await;
        case.remembered_by(token()).await;
        let owner = case.parked_by(token(), &note).await;
        require_eq!(owner.attempt, 2, "the second attempt");
        case.require_parked(owner, &note, "parked by its owner").await;
        case.elsewhere().await.require_parked(owner, &note, "parked elsewhere too").await;
    }
}

/// Time settles nothing: `ttl` and `remember` are those of answers.
pub async fn parked_outlives_every_time(fixture: &dyn Fixture) {
    let note = answer("why");
    let verdict = Case::new(fixture).await;
    let by_verdict = verdict.unknown_by(token()).await;
    require_eq!(
        verdict.resolve(Verdict::Parked(note.clone())).await,
        Resolved::Applied,
        "a verdict on what is unknown"
    );
    // On a machine on which lease and retention are over before it is parked, it is asked again.
    for _ in 0..20 {
        let case = Case::new(fixture).await;
        let token = token();
        let claimed = Instant::now();
        let owner = case.win(case.briefly(token).retention(Some(BRIEF))).await;
        let parked = Complete::new(case.key, token, Outcome::Parked(note.clone()), BRIEF);
        if case.complete_as(parked).await == Ownership::Held {
            case.pass(4 * BRIEF).await;
            verdict.require_parked(by_verdict, &note, "parked by a verdict, later").await;
            return case.require_parked(owner, &note, "past lease, retention, `ttl` and `remember`").await;
        }
        require!(claimed.elapsed() >= 2 * BRIEF, "the owner parks within its lease");
    }
    panic!("the store failed: it never took less than {:?} for a claim and a completion", 2 * BRIEF);
}

/// The reply to it can be lost like any other.
pub async fn a_parked_completion_asked_again_is_held_and_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (token, note) = (token(), answer("first"));
    let owner = case.parked_by(token, &note).await;
    for again in [note.clone(), answer("second")] {
        let again = Outcome::Parked(again);
        require_eq!(case.complete(token, again).await, Ownership::Held, "a parked completion asked again");
        case.require_parked(owner, &note, "a parked completion asked again changes nothing").await;
    }
}

/// Its owner put it aside, and is from then on nobody else than others.
pub async fn what_is_parked_is_nobodys_to_run_or_release(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (token, note) = (token(), answer("why"));
    let owner = case.parked_by(token, &note).await;
    let Won { fence, attempt } = owner;
    let parked = Claimed::Parked { note: note.clone(), fence, attempt };
    require_eq!(case.claim(case.by(token)).await, parked, "the owner of what is parked claims again");
    require_eq!(case.renew(case.by(token)).await, Ownership::Lost, "the owner of what is parked renews it");
    require_eq!(case.release(token).await, Ownership::Lost, "the owner of what is parked releases it");
    require_eq!(
        case.release_remembered(token, LONG).await,
        Ownership::Lost,
        "the owner of what is parked remembers it"
    );
    for outcome in [Outcome::Answer(answer("done after all")), Outcome::Tombstone, Outcome::Unknown] {
        // Whether this counts as asked again is the store's choice; that it changes nothing is not.
        _ = case.complete(token, outcome).await;
        case.require_parked(owner, &note, "its owner changes nothing").await;
    }
}

/// Whoever merely met a parked record has no say in it.
pub async fn a_stranger_cannot_settle_what_is_parked(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let note = answer("why");
    let owner = case.parked_by(token(), &note).await;
    let stranger = token();
    for forged in [Outcome::Answer(answer("forged")), Outcome::Parked(answer("forged"))] {
        require_eq!(case.complete(stranger, forged).await, Ownership::Lost, "a stranger completes what is parked");
    }
    require_eq!(case.release(stranger).await, Ownership::Lost, "a stranger releases what is parked");
    require_eq!(case.renew(case.by(stranger)).await, Ownership::Lost, "a stranger renews what is parked");
    case.require_parked(owner, &note, "a stranger changes nothing").await;
}

/// The same key with another request is a mistake of the caller's, whatever became of the first.
pub async fn another_fingerprint_is_a_mismatch_when_parked(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (token, note) = (token(), answer("why"));
    let owner = case.parked_by(token, &note).await;
    let other = Claim { fingerprint: OTHER_PRINT, ..case.by(token) };
    require_eq!(case.claim(other).await, Claimed::Mismatch, "another request on what is parked");
    case.require_parked(owner, &note, "a mismatch changes nothing").await;
}

/// An owner that was thought dead knows that it is to be put aside.
pub async fn the_owner_may_still_park_what_is_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (token, note) = (token(), answer("late"));
    let owner = case.unknown_by(token).await;
    require_eq!(
        case.complete(token, Outcome::Parked(note.clone())).await,
        Ownership::Held,
        "the owner parks what is unknown"
    );
    case.require_parked(owner, &note, "the owner's word is recorded").await;
}

/// An operator ran it by hand, or found that it ran.
pub async fn parked_resolved_with_an_answer_is_replayed(fixture: &dyn Fixture) {
    for found in [Some(answer("by hand")), None] {
        let case = Case::new(fixture).await;
        let token = token();
        let owner = case.parked_by(token, &answer("why")).await;
        let resolve = Resolve::new(case.key, ran(found.clone())).fence(owner.fence);
        require_eq!(case.resolve_as(resolve).await, Resolved::Applied, "a verdict on what is parked");
        case.require_completed(found.as_ref(), "the verdict is what every retry gets").await;
        require_eq!(case.complete(token, Outcome::Tombstone).await, Ownership::Lost, "it is no longer its owner's");
    }
}

/// An operator lets it run again.
pub async fn parked_resolved_as_not_executed_is_absent(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let token = token();
    let owner = case.parked_by(token, &answer("why")).await;
    require_eq!(case.resolve(Verdict::NotExecuted).await, Resolved::Applied, "a verdict on what is parked");
    require_eq!(case.complete(token, Outcome::Tombstone).await, Ownership::Lost, "it is no longer its owner's");
    case.require_absent_after(owner, "it may run again").await;
}

/// A recovery function could not tell: the record waits for an operator, and no longer for its late owner.
pub async fn a_verdict_may_park_what_is_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (token, note) = (token(), answer("nobody can tell"));
    let owner = case.unknown_by(token).await;
    require_eq!(case.resolve(Verdict::Parked(note.clone())).await, Resolved::Applied, "a verdict on what is unknown");
    case.require_parked(owner, &note, "parked by a verdict").await;
    require_eq!(
        case.complete(token, Outcome::Tombstone).await,
        Ownership::Lost,
        "the owner completes what was resolved"
    );
    require_eq!(case.release(token).await, Ownership::Lost, "the owner releases what was resolved");
    case.require_parked(owner, &note, "the verdict stands").await;
    require_eq!(case.resolve(Verdict::NotExecuted).await, Resolved::Applied, "a verdict on what a verdict parked");
    case.require_absent_after(owner, "it may run again").await;
}

/// What is known changes before anything is settled.
pub async fn a_verdict_may_change_the_note_of_what_is_parked(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.parked_by(token(), &answer("why")).await;
    for note in [answer("asked the bank"), answer(""), answer(random::<3_000>())] {
        let resolve = Resolve::new(case.key, Verdict::Parked(note.clone())).fence(owner.fence);
        require_eq!(case.resolve_as(resolve).await, Resolved::Applied, "a new note on what is parked");
        case.require_parked(owner, &note, "parked with the new note").await;
    }
}

/// An operator looked at an earlier run.
pub async fn a_verdict_on_another_fence_leaves_it_parked(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let note = answer("why");
    let earlier = case.remembered_by(token()).await;
    let owner = case.parked_by(token(), &note).await;
    for verdict in [Verdict::NotExecuted, ran(None), Verdict::Parked(answer("of an earlier run"))] {
        let resolve = Resolve::new(case.key, verdict).fence(earlier.fence);
        require_eq!(case.resolve_as(resolve).await, Resolved::NotUnknown, "a verdict on an earlier fence");
        case.require_parked(owner, &note, "a verdict on another fence changes nothing").await;
    }
}

/// A verdict takes nothing from whoever runs or ran, and brings nothing into being.
pub async fn a_verdict_parks_only_what_is_unknown_or_parked(fixture: &dyn Fixture) {
    let park = || Verdict::Parked(answer("why"));
    let case = Case::new(fixture).await;
    require_eq!(case.resolve(park()).await, Resolved::NotUnknown, "a verdict parks what is absent");
    let owner = token();
    require_eq!(case.win(case.by(owner)).await.attempt, 1, "there is still nothing");
    require_eq!(case.resolve(park()).await, Resolved::NotUnknown, "a verdict parks what is in flight");
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner is still the owner");
    let (answer, outcome) = answer_of("done");
    require_eq!(case.complete(owner, outcome).await, Ownership::Held, "the owner completes");
    require_eq!(case.resolve(park()).await, Resolved::NotUnknown, "a verdict parks what is completed");
    case.require_completed(Some(&answer), "a verdict changes nothing").await;

    let case = Case::new(fixture).await;
    case.abandoned_by(token()).await;
    require_eq!(case.resolve(park()).await, Resolved::NotUnknown, "a verdict parks what is abandoned");
    require_eq!(case.win(case.by(token())).await.attempt, 2, "the record is still abandoned");
}

fn ran(answer: Option<Answer>) -> Verdict {
    Verdict::Completed { answer, ttl: LONG, remember: LONG }
}
