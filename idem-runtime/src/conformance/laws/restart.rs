//! What outlives a restart of whatever keeps the records.

use crate::{
    conformance::{Fixture, Restartable, case::*},
    store::{Outcome, Ownership, Parked},
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
    let mut parked = Parked::first(100);
    loop {
        let page = page(&*case.store, parked).await;
        if page.iter().any(|record| record.key == case.key) {
            return;
        }
        match page.last() {
            Some(last) => parked = parked.after(last.key),
            None => fail(format_args!("what was parked before the restart is not listed")),
        }
    }
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
