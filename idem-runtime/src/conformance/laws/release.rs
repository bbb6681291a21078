//! Giving a key back.

use crate::{
    conformance::{Fixture, case::*},
    store::Ownership,
};

/// A refused card is no effect: the retry runs, even with a corrected request, as if for the first time.
pub async fn a_release_makes_the_key_absent(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.win(case.by(owner)).await;
    require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    case.elsewhere().await.require_absent_after(first, "released").await;
}

/// Two owners in a row are told apart even where one followed the other within a microsecond.
pub async fn fences_grow_after_every_release(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let mut last = None;
    for _ in 0..200 {
        let owner = token();
        let next = case.win(case.by(owner)).await;
        if let Some(last) = last {
            require_grown(last, next.fence);
        }
        last = Some(next.fence);
        require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    }
}

/// A key is only its owner's to give back.
pub async fn a_stranger_cannot_release(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    require_eq!(case.release(token()).await, Ownership::Lost, "a stranger releases");
    case.require_busy("a stranger's release changes nothing").await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner is still the owner");
}

/// A release whose reply was lost is asked again, and by then somebody else may run.
pub async fn a_release_asked_again_leaves_the_next_owner_alone(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    case.win(case.by(token())).await;
    require_eq!(case.release(owner).await, Ownership::Lost, "a release asked again");
    case.require_busy("a release asked again changes nothing").await;
}

/// What has happened cannot be given back, not even by its owner.
pub async fn what_is_completed_cannot_be_released(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let (answer, outcome) = answer_of("done");
    case.completed_by(owner, outcome).await;
    require_eq!(case.release(owner).await, Ownership::Lost, "a release of what is completed");
    case.require_completed(Some(&answer), "a release of what is completed changes nothing").await;
}

/// There is nothing to give back, and saying so leaves nothing behind.
pub async fn what_is_absent_cannot_be_released(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    require_eq!(case.release(token()).await, Ownership::Lost, "a release of what is absent");
    require_eq!(case.win(case.by(token())).await.attempt, 1, "a release of what is absent changes nothing");
}
