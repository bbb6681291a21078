//! How long a claim holds, and what becomes of one that was abandoned.

use std::time::{Duration, Instant};

use crate::{
    conformance::{Fixture, case::*},
    store::{Abandoned, Claim, Claimed, Outcome, Ownership},
};

/// A crashed owner blocks its key no longer than its lease. The next one runs as attempt 2, with a fence that what the
/// handler writes to can tell from the first one's.
pub async fn an_abandoned_record_is_taken_over(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = case.abandoned_by(token()).await;
    let second = case.elsewhere().await.win(case.by(token())).await;
    require_eq!(second.attempt, 2, "a take-over is the next attempt");
    require_grown(first.fence, second.fence);
    case.require_busy("who took over is the owner").await;
}

/// Attempts are counted for as long as the record lives.
pub async fn attempts_count_every_take_over(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let mut last = case.abandoned_by(token()).await;
    for attempt in 2..=4 {
        let next = case.abandoned_by(token()).await;
        require_eq!(next.attempt, attempt, "each take-over is one attempt more");
        require_grown(last.fence, next.fence);
        last = next;
    }
}

/// Where a second run could charge twice, an abandoned record is not run again: it becomes unknown, and stays so even
/// for those who would take over.
pub async fn an_abandoned_record_becomes_unknown_when_asked(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.abandoned_by(token()).await;
    let claimed = case.claim(case.by(token()).abandoned(Abandoned::MarkUnknown)).await;
    let unknown = Claimed::Unknown { fence: owner.fence, attempt: owner.attempt };
    require_eq!(claimed, unknown, "an abandoned record is unknown, with the fence and attempt of its owner");
    case.require_unknown(owner, "unknown stays unknown for those who would take over").await;
    case.pass_brief().await;
    case.require_unknown(owner, "unknown stays unknown").await;
}

/// Asking for unknown is about what is abandoned, never about what runs.
pub async fn a_living_lease_is_never_made_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    let claimed = case.claim(case.by(token()).abandoned(Abandoned::MarkUnknown)).await;
    require!(matches!(claimed, Claimed::Busy { .. }), "the lease is alive: found {claimed:?} instead of busy");
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner is still the owner");
}

/// A handler that takes longer than its lease is not doubled as long as it renews.
pub async fn a_renewal_extends_the_lease(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.briefly(owner)).await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner renews");
    case.pass_brief().await;
    case.require_busy("the lease was renewed").await;
    require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "the owner is still the owner");
}

/// A renewal replaces the lease, it is not added to it: a key must not stay blocked for the sum of all renewals.
pub async fn a_renewal_counts_from_now(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    require_eq!(case.renew(case.briefly(owner)).await, Ownership::Held, "the owner renews");
    case.pass_brief().await;
    let claimed = case.look().await;
    require!(won(&claimed).is_some(), "the renewed lease is over: found {claimed:?} instead of a won claim");
}

/// A worker that was stopped for a while and that nobody took over from goes on.
pub async fn a_renewal_past_the_lease_is_held(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.abandoned_by(owner).await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "nobody took over, so the owner renews");
    case.require_busy("the lease has started again").await;
}

/// What a renewal says about how long an abandoned record is seen replaces what the claim said.
pub async fn a_renewal_carries_its_retention(fixture: &dyn Fixture) {
    let forgotten = Case::new(fixture).await;
    let kept = Case::new(fixture).await;
    let (owner, brief) = (token(), Some(BRIEF));
    let first = forgotten.win(forgotten.by(owner).retention(None)).await;
    let lasting = kept.win(kept.by(owner).retention(brief)).await;
    let renewed = forgotten.renew(forgotten.briefly(owner).retention(brief)).await;
    require_eq!(renewed, Ownership::Held, "the owner renews");
    require_eq!(kept.renew(kept.briefly(owner).retention(None)).await, Ownership::Held, "the owner renews");
    kept.pass(2 * BRIEF).await;
    forgotten.require_absent_after(first, "renewed with a brief retention, it is over").await;
    kept.require_unknown(lasting, "renewed without an end to its retention, it is seen").await;
}

/// Nothing but a record in flight has a lease. In particular a renewal that comes late brings nothing back.
pub async fn only_what_is_in_flight_is_renewed(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    require_eq!(case.renew(case.by(owner)).await, Ownership::Lost, "a renewal of what is absent");
    let first = case.win(case.by(owner)).await;
    require_eq!(case.renew(case.by(token())).await, Ownership::Lost, "a renewal by a stranger");
    require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    require_eq!(case.renew(case.by(owner)).await, Ownership::Lost, "a renewal of what was released");
    case.require_absent_after(first, "a renewal of what was released").await;

    let case = Case::new(fixture).await;
    let (answer, outcome) = answer_of("done");
    case.completed_by(owner, outcome).await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Lost, "a renewal of what is completed");
    case.require_completed(Some(&answer), "a renewal of what is completed changes nothing").await;

    let case = Case::new(fixture).await;
    let unknown = case.unknown_by(owner).await;
    require_eq!(case.renew(case.by(owner)).await, Ownership::Lost, "a renewal of what is unknown");
    case.require_unknown(unknown, "a renewal of what is unknown changes nothing").await;
}

/// A worker that wakes past its lease, after somebody took over, can no longer hold the key.
pub async fn a_stale_owner_cannot_renew(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (stale, next) = (token(), token());
    case.abandoned_by(stale).await;
    case.win(case.briefly(next)).await;
    require_eq!(case.renew(case.by(stale)).await, Ownership::Lost, "a stale owner renews");
    case.pass_brief().await;
    require_eq!(
        case.win(case.by(token())).await.attempt,
        3,
        "a stale owner's renewal does not extend the next one's lease"
    );
}

/// A worker that wakes past its lease cannot overwrite what the next one is doing or has answered.
pub async fn a_stale_owner_cannot_complete(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (stale, next) = (token(), token());
    case.abandoned_by(stale).await;
    case.win(case.by(next)).await;
    let late = || Outcome::Answer(answer("the first one's"));
    require_eq!(case.complete(stale, late()).await, Ownership::Lost, "a stale owner completes what is in flight");
    case.require_busy("a stale owner's completion changes nothing").await;
    let (answer, outcome) = answer_of("the second one's");
    require_eq!(case.complete(next, outcome).await, Ownership::Held, "who took over completes");
    require_eq!(case.complete(stale, late()).await, Ownership::Lost, "a stale owner completes what is completed");
    case.require_completed(Some(&answer), "the record keeps the answer of who took over").await;
}

/// A worker that wakes past its lease cannot free the key under the next one, so that a third would run beside it.
pub async fn a_stale_owner_cannot_release(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (stale, next) = (token(), token());
    case.abandoned_by(stale).await;
    case.win(case.by(next)).await;
    require_eq!(case.release(stale).await, Ownership::Lost, "a stale owner releases");
    case.require_busy("a stale owner's release changes nothing").await;
    require_eq!(case.renew(case.by(next)).await, Ownership::Held, "who took over is still the owner");
}

/// A lease that ran out unnoticed costs nothing: the effect has happened and must be recorded.
pub async fn an_owner_past_its_lease_may_complete(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.abandoned_by(owner).await;
    let (answer, outcome) = answer_of("late");
    require_eq!(case.complete(owner, outcome).await, Ownership::Held, "nobody took over, so the owner completes");
    case.require_completed(Some(&answer), "the late answer is recorded").await;
}

/// As completing: nobody took over, so the key is the owner's to free.
pub async fn an_owner_past_its_lease_may_release(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.abandoned_by(owner).await;
    require_eq!(case.release(owner).await, Ownership::Held, "nobody took over, so the owner releases");
    case.require_absent_after(first, "a late release").await;
}

/// Past lease and retention an abandoned record is as if it had never been, for its late owner too.
pub async fn an_abandoned_record_past_its_retention_is_absent(fixture: &dyn Fixture) {
    let brief = |case: &Case<'_>, token| case.briefly(token).retention(Some(BRIEF));
    let (claimed, renewed, completed) = (Case::new(fixture).await, Case::new(fixture).await, Case::new(fixture).await);
    let owner = token();
    let mut firsts = Vec::new();
    for case in [&claimed, &renewed, &completed] {
        firsts.push(case.win(brief(case, owner)).await);
    }
    claimed.pass(2 * BRIEF).await;
    require_eq!(renewed.renew(renewed.by(owner)).await, Ownership::Lost, "a renewal past lease and retention");
    let late = completed.complete(owner, Outcome::Tombstone).await;
    require_eq!(late, Ownership::Lost, "a completion past lease and retention");
    for (case, first) in [claimed, renewed, completed].iter().zip(firsts) {
        case.require_absent_after(first, "past lease and retention").await;
    }
}

/// Where an abandoned record must be settled by somebody who knows, no time makes it absent.
pub async fn an_abandoned_record_without_retention_stays(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.win(case.briefly(token()).retention(None)).await;
    case.pass(4 * BRIEF).await;
    let other = Claim { fingerprint: OTHER_PRINT, ..case.by(token()) };
    require_eq!(case.claim(other).await, Claimed::Mismatch, "the record is still there");
    require!(matches!(case.look().await, Claimed::Unknown { .. }), "the record is still there");
}

/// Who runs says what becomes of it, not who asks: in the middle of a deployment the one who asks may be a version that would take over.
pub async fn what_must_be_settled_is_never_taken_over(fixture: &dyn Fixture) {
    for is_renewed in [false, true] {
        let (case, owner) = (Case::new(fixture).await, token());
        let abandoned = case.kept_by(owner, is_renewed).await;
        case.require_unknown(abandoned, "a claim that would take over finds it unknown").await;
        require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Held, "its owner may still tell");
        case.require_completed(None, "its owner has told").await;
    }
}

/// What a claim made unknown has no end: the time for which an abandoned record is seen was that of a record in flight.
pub async fn what_a_claim_made_unknown_outlives_its_retention(fixture: &dyn Fixture) {
    const RETENTION: Duration = Duration::from_secs(1);
    // On a machine on which lease and retention are over before it is made unknown, it is asked again.
    for _ in 0..20 {
        let case = Case::new(fixture).await;
        let claimed = Instant::now();
        let owner = case.win(case.briefly(token()).retention(Some(RETENTION))).await;
        case.pass_brief().await;
        match case.claim(case.by(token()).abandoned(Abandoned::MarkUnknown)).await {
            Claimed::Unknown { .. } => {
                case.pass(BRIEF + 2 * RETENTION).await;
                return case.require_unknown(owner, "past the lease and the retention of its claim").await;
            }
            found => {
                let is_over = claimed.elapsed() >= BRIEF + RETENTION;
                require!(is_over, "an abandoned record becomes unknown when asked: found {found:?}");
            }
        }
    }
    panic!("the store failed: it never took less than {RETENTION:?} from a lease's end to the next claim");
}
