//! Giving a key back with its attempt remembered.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    conformance::{Fixture, case::*},
    store::{Abandoned, Claim, Claimed, Complete, Outcome, Ownership, Release, Resolve, Resolved, Verdict},
};

/// An event whose handler failed is tried again, and counted: even where what is abandoned becomes unknown, for its owner
/// said that nothing happened.
pub async fn a_remembered_release_makes_the_next_claim_the_next_attempt(fixture: &dyn Fixture) {
    for abandoned in [Abandoned::TakeOver, Abandoned::MarkUnknown] {
        let case = Case::new(fixture).await;
        let mut owner = token();
        let mut last = case.remembered_by(owner).await;
        require_eq!(last.attempt, 1, "an absent key starts at attempt 1");
        for _ in 0..3 {
            owner = token();
            let there = case.elsewhere().await;
            last =
                there.require_next_attempt(last, case.by(owner).abandoned(abandoned), "released and remembered").await;
            there.require_busy("somebody runs the next attempt").await;
            require_eq!(case.release_remembered(owner, LONG).await, Ownership::Held, "the next owner releases");
        }
        let owner = token();
        case.require_next_attempt(last, case.by(owner), "released again").await;
        let (answer, outcome) = answer_of("done");
        require_eq!(case.complete(owner, outcome).await, Ownership::Held, "the last owner completes");
        case.require_completed(Some(&answer), "completed by the last attempt").await;
    }
}

/// Who gave it back has no say any more, and is no longer known by its token: neither before the next one comes nor after.
pub async fn a_remembered_release_has_no_owner(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let former = token();
    let first = case.remembered_by(former).await;
    for who in [former, token()] {
        require_eq!(case.renew(case.by(who)).await, Ownership::Lost, "a renewal of what was released");
        let forged = Outcome::Answer(answer("too late"));
        require_eq!(case.complete(who, forged).await, Ownership::Lost, "a completion of what was released");
        require_eq!(case.release_remembered(who, LONG).await, Ownership::Lost, "a release of what was released");
        require_eq!(case.release(who).await, Ownership::Lost, "a whole release of what was released");
    }
    let next = case.require_next_attempt(first, case.by(former), "the former owner claims like anybody else").await;
    require_eq!(case.release_remembered(former, LONG).await, Ownership::Held, "it owns what it claimed again");
    let owner = token();
    case.require_next_attempt(next, case.by(owner), "released again").await;
    require_eq!(case.release_remembered(former, LONG).await, Ownership::Lost, "a release asked again");
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the next owner is left alone");
}

/// The attempt is remembered for as long as was said, not for as long as the claim would have lasted.
pub async fn a_remembered_release_outlives_its_lease(fixture: &dyn Fixture) {
    // On a machine on which lease and retention are over before it is released, it is asked again.
    for _ in 0..20 {
        let case = Case::new(fixture).await;
        let owner = token();
        let first = case.win(case.briefly(owner).retention(Some(BRIEF))).await;
        if case.release_remembered(owner, LONG).await == Ownership::Held {
            case.pass(4 * BRIEF).await;
            case.require_next_attempt(first, case.by(token()), "past lease and retention").await;
            return;
        }
    }
    panic!("the store failed: it never took less than {:?} for a claim and a release", 2 * BRIEF);
}

/// And for no longer.
pub async fn a_remembered_release_is_forgotten_in_its_time(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.win(case.by(owner)).await;
    require_eq!(case.release_remembered(owner, BRIEF).await, Ownership::Held, "the owner releases");
    case.pass_brief().await;
    case.require_absent_after(first, "past `remember`").await;
}

/// What is remembered is the attempt at one request.
pub async fn another_fingerprint_is_a_mismatch_when_remembered(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.remembered_by(owner).await;
    for who in [owner, token()] {
        let other = Claim { fingerprint: OTHER_PRINT, ..case.by(who) };
        require_eq!(case.claim(other).await, Claimed::Mismatch, "another request on what was released and remembered");
    }
    case.require_next_attempt(first, case.by(token()), "a mismatch changes nothing").await;
}

/// An owner that was thought dead knows that nothing happened, and that it was an attempt.
pub async fn what_is_unknown_may_be_released_and_remembered(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.unknown_by(owner).await;
    require_eq!(case.release_remembered(owner, LONG).await, Ownership::Held, "the owner releases what is unknown");
    case.require_next_attempt(first, case.by(token()), "unknown, then released and remembered").await;
}

/// What has happened, or waits for an operator, is not tried again on its owner's word.
pub async fn what_is_over_is_not_released_and_remembered(fixture: &dyn Fixture) {
    let (first, outcome) = answer_of("done");
    for outcome in [outcome, Outcome::Tombstone, Outcome::Parked(answer("why"))] {
        let case = Case::new(fixture).await;
        let owner = token();
        case.completed_by(owner, outcome.clone()).await;
        let before = case.look().await;
        require_eq!(
            case.release_remembered(owner, LONG).await,
            Ownership::Lost,
            "a release of what is over ({outcome:?})"
        );
        require_eq!(case.look().await, before, "a release of what is over changes nothing ({outcome:?})");
        let answer = matches!(outcome, Outcome::Answer(_)).then(|| first.clone());
        if !matches!(outcome, Outcome::Parked(_)) {
            require_eq!(before, Claimed::Completed { answer }, "it was completed");
        }
    }
    let case = Case::new(fixture).await;
    let release = Release::new(case.key, token()).remember(LONG);
    require_eq!(answered("release", case.store.release(release).await), Ownership::Lost, "a release of what is absent");
    require_eq!(case.win(case.by(token())).await.attempt, 1, "a release of what is absent leaves nothing behind");
}

/// There is nothing to settle: the next attempt will tell.
pub async fn a_verdict_on_what_is_remembered_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = case.remembered_by(token()).await;
    let ran = Verdict::Completed { answer: None, ttl: LONG, remember: LONG };
    for verdict in [Verdict::NotExecuted, ran, Verdict::Parked(answer("why"))] {
        require_eq!(case.resolve(verdict.clone()).await, Resolved::NotUnknown, "a verdict on what was released");
        let resolve = Resolve::new(case.key, verdict).fence(first.fence);
        require_eq!(case.resolve_as(resolve).await, Resolved::NotUnknown, "a verdict on it, by its fence");
    }
    case.require_next_attempt(first, case.by(token()), "a verdict on what was released changes nothing").await;
}

/// Everybody who waited for the failed attempt comes at once; one of them tries again.
pub async fn of_many_that_find_it_released_one_wins(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = case.remembered_by(token()).await;
    let start = Arc::new(Barrier::new(30));
    let mut claims = JoinSet::new();
    for at in 0..30 {
        let (store, start) = (store_of(fixture).await, Arc::clone(&start));
        let abandoned = if at % 2 == 0 { Abandoned::TakeOver } else { Abandoned::MarkUnknown };
        let claim = case.by(token()).abandoned(abandoned);
        claims.spawn(async move {
            start.wait().await;
            (claim, answered("claim", store.claim(claim).await))
        });
    }
    let found = claims.join_all().await;
    let winners: Vec<_> = found.iter().filter_map(|(claim, claimed)| Some((claim, won(claimed)?))).collect();
    require_eq!(winners.len(), 1, "of many that find it released one wins, found {found:?}");
    let busy = found.iter().filter(|(_, claimed)| matches!(claimed, Claimed::Busy { .. })).count();
    require_eq!(busy, 29, "every other one finds the new owner's lease, found {found:?}");
    for (claim, next) in winners {
        require_eq!(next.attempt, 2, "one attempt more");
        require_grown(first.fence, next.fence);
        let complete = Complete::new(case.key, claim.token, Outcome::Tombstone, Duration::from_secs(60));
        require_eq!(case.complete_as(complete).await, Ownership::Held, "the winner completes");
    }
}
