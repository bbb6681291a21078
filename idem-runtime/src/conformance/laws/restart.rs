//! What outlives a restart of whatever keeps the records.

use crate::{
    conformance::{Fixture, Restartable, case::*},
    store::{Abandoned, Claimed, Outcome, Ownership, Parked, Resolved, Verdict},
};

/// Whoever runs goes on running, and a restart lets nobody run beside it.
pub async fn a_claim_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    fixture.restart().await;
    let case = case.elsewhere().await;
    case.require_busy("claimed before the restart").await;
    let (answer, outcome) = answer_of("after the restart");
    require_eq!(case.complete(owner, outcome).await, Ownership::Held, "the owner completes after the restart");
    case.require_completed(Some(&answer), "completed after the restart").await;
}

/// A batch is written as its claims would be one by one: what was new, taken over or tried again in it.
pub async fn many_claims_outlive_a_restart(fixture: &dyn Restartable) {
    let absent = Case::new(fixture as &dyn Fixture).await;
    let (tried, left) = (absent.another(), absent.another());
    tried.remembered_by(token()).await;
    left.abandoned_by(token()).await;
    let claims = [&absent, &tried, &left].map(|case| case.by(token()));
    let mut owners = Vec::new();
    for claimed in absent.store.claim_many(&claims).await {
        let claimed = answered("claim_many", claimed);
        owners.push(won(&claimed).unwrap_or_else(|| fail(format_args!("many claims that must be won: {claimed:?}"))));
    }
    require_eq!(owners.len(), claims.len(), "one answer for each of many claims");
    fixture.restart().await;
    for (case, (claim, owner)) in [absent, tried, left].iter().zip(claims.into_iter().zip(owners)) {
        let case = case.elsewhere().await;
        case.require_busy("claimed among many before the restart").await;
        require_eq!(case.win(claim).await, owner, "the owner of one of many claims asks again after the restart");
        let done = case.complete(claim.token, Outcome::Tombstone).await;
        require_eq!(done, Ownership::Held, "the owner of one of many claims completes after the restart");
    }
}

/// Whoever renewed before the restart holds its key for as long as it was told, not for as long as it claimed.
pub async fn a_renewal_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let owner = token();
    case.win(case.briefly(owner)).await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner renews");
    fixture.restart().await;
    let case = case.elsewhere().await;
    case.pass_brief().await;
    case.require_busy("renewed before the restart").await;
    require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "the owner completes after it");
}

/// A retry that comes after a restart is a retry all the same.
pub async fn an_answer_outlives_a_restart(fixture: &dyn Restartable) {
    let (kept, tombstone) = (Case::new(fixture as &dyn Fixture).await, Case::new(fixture as &dyn Fixture).await);
    let (answer, outcome) = answer_of(random::<1000>());
    kept.completed_by(token(), outcome).await;
    tombstone.completed_by(token(), Outcome::Tombstone).await;
    fixture.restart().await;
    kept.elsewhere().await.require_completed(Some(&answer), "completed before the restart").await;
    tombstone.elsewhere().await.require_completed(None, "a tombstone from before the restart").await;
}

/// A restart settles nothing.
pub async fn unknown_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let owner = case.unknown_by(token()).await;
    fixture.restart().await;
    case.elsewhere().await.require_unknown(owner, "unknown before the restart").await;
}

/// Nobody runs again what one claim was told that nobody can tell.
pub async fn what_a_claim_made_unknown_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let owner = case.abandoned_by(token()).await;
    let Won { fence, attempt } = owner;
    let claimed = case.claim(case.by(token()).abandoned(Abandoned::MarkUnknown)).await;
    require_eq!(claimed, Claimed::Unknown { fence, attempt }, "an abandoned record is unknown when asked");
    fixture.restart().await;
    case.elsewhere().await.require_unknown(owner, "made unknown before the restart").await;
}

/// An operator who has settled it is not asked again, and whoever was told how it ended is told the same.
pub async fn a_verdict_outlives_a_restart(fixture: &dyn Restartable) {
    let ran = Case::new(fixture as &dyn Fixture).await;
    let (again, aside) = (ran.another(), ran.another());
    let (found, note, late) = (answer("found"), answer("nobody can tell"), token());
    ran.parked_by(late, &answer("why")).await;
    let verdict = Verdict::Completed { answer: Some(found.clone()), ttl: LONG, remember: LONG };
    require_eq!(ran.resolve(verdict).await, Resolved::Applied, "a verdict on what is parked");
    let last = again.unknown_by(token()).await;
    require_eq!(again.resolve(Verdict::NotExecuted).await, Resolved::Applied, "a verdict on what is unknown");
    let owner = aside.unknown_by(token()).await;
    let verdict = Verdict::Parked(note.clone());
    require_eq!(aside.resolve(verdict).await, Resolved::Applied, "a verdict parks what is unknown");
    fixture.restart().await;
    let (ran, again, aside) = (ran.elsewhere().await, again.elsewhere().await, aside.elsewhere().await);
    ran.require_completed(Some(&found), "settled before the restart").await;
    require_eq!(ran.complete(late, Outcome::Tombstone).await, Ownership::Lost, "settled, it is no longer its owner's");
    require!(!is_listed(&ran).await, "what was settled before the restart is listed");
    again.require_absent_after(last, "settled before the restart as not executed").await;
    aside.require_parked(owner, &note, "parked by a verdict before the restart").await;
    require!(is_listed(&aside).await, "what a verdict parked before the restart is not listed");
}

/// An event that was tried before the restart was tried.
pub async fn a_remembered_attempt_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let first = case.remembered_by(token()).await;
    fixture.restart().await;
    let case = case.elsewhere().await;
    case.require_next_attempt(first, case.by(token()), "released and remembered before the restart").await;
}

/// What waits for an operator waits on, where the operator finds it.
pub async fn parked_outlives_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let note = answer("why");
    let owner = case.parked_by(token(), &note).await;
    fixture.restart().await;
    let case = case.elsewhere().await;
    case.require_parked(owner, &note, "parked before the restart").await;
    require!(is_listed(&case).await, "what was parked before the restart is not listed");
}

/// Fences come from more than what the server has in memory.
pub async fn fences_grow_over_a_restart(fixture: &dyn Restartable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let owner = token();
    let last = case.win(case.by(owner)).await;
    require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    fixture.restart().await;
    case.elsewhere().await.require_absent_after(last, "released before the restart").await;
}

async fn is_listed(case: &Case<'_>) -> bool {
    let mut parked = Parked::first(100);
    loop {
        let page = page(&*case.store, parked).await;
        if page.iter().any(|record| record.key == case.key) {
            return true;
        }
        let Some(last) = page.last() else { return false };
        parked = parked.after(last.key);
    }
}
