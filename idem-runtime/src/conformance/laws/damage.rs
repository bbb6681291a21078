//! Records that were damaged behind the store's back.

use std::time::Duration;

use super::listed::Shelf;
use crate::{
    conformance::{Damage, Damageable, Fixture, case::*},
    store::{Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Release, Renew, Resolve, Resolved, Verdict},
};

/// During a rolling update the older version meets records of the newer one. It cannot know what they say, so it must not
/// run.
pub async fn a_record_of_a_newer_format_is_refused(fixture: &dyn Damageable) {
    require_refused(fixture, Damage::NewerFormat).await;
}

/// As for a newer format: whatever it was, it is not nothing.
pub async fn a_record_with_broken_bytes_is_refused(fixture: &dyn Damageable) {
    require_refused(fixture, Damage::BrokenBytes).await;
}

/// Whatever unit a store's clock counts in, it has moved on by then.
const TICK: Duration = Duration::from_millis(5);

/// The key of a record that was evicted can be run again, and then at least what the handler writes to can tell. Of a claim
/// in the same moment it cannot: nothing but the clock is left of the record.
pub async fn fences_grow_after_a_record_was_lost(fixture: &dyn Damageable) {
    let case = Case::new(fixture as &dyn Fixture).await;
    let mut last = case.win(case.by(token())).await;
    for _ in 0..20 {
        fixture.damage(case.key, Damage::Gone).await;
        fixture.pass(TICK).await;
        last = case.require_absent_after(last, "the record was lost").await;
    }
}

/// An operator finds the others, page by page: what cannot be read is none of them, and no page ends at it.
pub async fn what_cannot_be_read_hides_nothing_that_is_parked(fixture: &dyn Damageable) {
    for damage in [Damage::NewerFormat, Damage::BrokenBytes] {
        let shelf = Shelf::new(fixture as &dyn Fixture).await;
        for at in 1..=5 {
            shelf.case(at).parked_by(token(), &answer([at])).await;
        }
        for at in [2, 3] {
            fixture.damage(shelf.key(at), damage).await;
        }
        for limit in [1, 2, 10] {
            let keys: Vec<_> = shelf.all(limit).await.iter().map(|record| record.key).collect();
            require_eq!(keys, [1, 4, 5].map(|at| shelf.key(at)), "{damage} among what is parked, in pages of {limit}");
        }
    }
}

/// An operator has the last word on what no version can read any more.
pub async fn what_cannot_be_read_is_forgotten(fixture: &dyn Damageable) {
    for damage in [Damage::NewerFormat, Damage::BrokenBytes] {
        let case = Case::new(fixture as &dyn Fixture).await;
        case.completed_by(token(), Outcome::Answer(answer("an answer"))).await;
        fixture.damage(case.key, damage).await;
        require_eq!(case.look().await, Claimed::Unreadable, "{damage}");
        let Some(forgotten) = case.forget().await else { return };
        require_eq!(forgotten, Forgotten::Done, "{damage} is forgotten");
        require_eq!(case.forget().await, Some(Forgotten::Absent), "{damage} is forgotten once");
        let won = case.win(Claim { fingerprint: OTHER_PRINT, ..case.by(token()) }).await;
        require_eq!(won.attempt, 1, "{damage} was forgotten, and an absent key starts at attempt 1");
    }
}

async fn require_refused(fixture: &dyn Damageable, damage: Damage) {
    for state in ["in flight", "completed", "a tombstone", "unknown", "remembered", "parked"] {
        let case = Case::new(fixture as &dyn Fixture).await;
        let owner = token();
        match state {
            "in flight" => case.win(case.by(owner)).await,
            "completed" => case.completed_by(owner, Outcome::Answer(answer("an answer"))).await,
            "a tombstone" => case.completed_by(owner, Outcome::Tombstone).await,
            "remembered" => case.remembered_by(owner).await,
            "parked" => case.parked_by(owner, &answer("why")).await,
            _ => case.unknown_by(owner).await,
        };
        fixture.damage(case.key, damage).await;
        require_eq!(case.look().await, Claimed::Unreadable, "{damage} ({state})");
        require_eq!(case.claim(case.by(owner)).await, Claimed::Unreadable, "{damage} ({state}), to its owner");

        // Whether these are errors or lost is the store's choice; that they take no step is not.
        let claim = case.by(owner);
        let complete = Complete::new(case.key, owner, Outcome::Tombstone, LONG);
        let resolve = Resolve::new(case.key, Verdict::NotExecuted);
        let held = [
            case.store.renew(Renew::of(&claim)).await,
            case.store.complete(&complete).await,
            case.store.release(Release::new(case.key, owner)).await,
        ];
        for step in held {
            require!(!matches!(step, Ok(Ownership::Held)), "{damage} ({state}): nobody can be told to own it");
        }
        let resolved = case.store.resolve(&resolve).await;
        require!(!matches!(resolved, Ok(Resolved::Applied)), "{damage} ({state}): nobody can settle it");
        require_eq!(case.look().await, Claimed::Unreadable, "{damage} ({state}), after its owner tried every step");
    }
}
