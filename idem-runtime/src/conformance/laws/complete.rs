//! What is kept of an operation that ran, and for how long.

use std::time::{Duration, Instant};

use crate::{
    conformance::{Fixture, case::*},
    store::{Abandoned, Claimed, Complete, Outcome, Ownership},
};

/// A replay is the first answer, not one like it. Seen from another replica too.
pub async fn an_answer_comes_back_byte_for_byte(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (answer, outcome) = answer_of(random::<257>());
    case.completed_by(token(), outcome).await;
    for _ in 0..3 {
        case.require_completed(Some(&answer), "the answer comes back").await;
        case.elsewhere().await.require_completed(Some(&answer), "the answer comes back elsewhere").await;
    }
}

/// A mebibyte is an ordinary answer.
pub async fn a_large_answer_comes_back_byte_for_byte(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (answer, outcome) = answer_of(random::<4096>().repeat(256));
    case.completed_by(token(), outcome).await;
    case.require_completed(Some(&answer), "a large answer comes back").await;
}

/// Answers are bytes. Nothing in them is syntax, the end of a string, or a sign that there is no answer.
pub async fn hostile_answers_come_back_byte_for_byte(fixture: &dyn Fixture) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let hostile: [&[u8]; 12] = [
        b"\0",
        b"\xff",
        b"0",
        b"nil",
        b"$-1\r\n",
        b"\r\n+OK\r\n:1\r\n",
        b"'; DROP TABLE records; --",
        b"\x00\x01\x00\x00ends with nothing\0\0",
        b"{\"state\":\"unknown\"}",
        "\u{feff}\u{202e}\u{1f4b8}".as_bytes(),
        b"\xc3\x28\xa0\xa1",
        &every_byte,
    ];
    for bytes in hostile {
        let case = Case::new(fixture).await;
        let (answer, outcome) = answer_of(bytes);
        case.completed_by(token(), outcome).await;
        case.require_completed(Some(&answer), "a hostile answer comes back").await;
    }
}

/// An effect whose answer is not kept has happened all the same, and is never run again.
pub async fn a_tombstone_says_that_it_ran(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.completed_by(token(), Outcome::Tombstone).await;
    case.require_completed(None, "it ran, and its answer is not kept").await;
}

/// A completion whose reply was lost is asked again. It is held, and whatever it says the second time is not heard:
/// what a client may have been given already must not change, and not last longer.
pub async fn a_completion_asked_again_is_held_and_changes_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let (first, outcome) = answer_of("first");
    case.completed_by(owner, outcome.clone()).await;
    for again in [outcome, Outcome::Answer(answer("second")), Outcome::Tombstone, Outcome::Unknown] {
        require_eq!(case.complete(owner, again).await, Ownership::Held, "a completion asked again");
        case.require_completed(Some(&first), "a completion asked again changes nothing").await;
    }
    let case = Case::new(fixture).await;
    let won = case.win(case.by(owner)).await;
    let brief = Complete::new(case.key, owner, Outcome::Tombstone, BRIEF);
    require_eq!(case.complete_as(brief).await, Ownership::Held, "the owner completes");
    // Whether it is held depends on how fast this machine is; that it adds no time does not.
    _ = case.complete(owner, Outcome::Tombstone).await;
    case.pass_brief().await;
    case.require_absent_after(won, "a completion asked again adds no time").await;
}

/// Only the owner knows how it ended.
pub async fn a_stranger_cannot_complete(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    for outcome in [Outcome::Answer(answer("forged")), Outcome::Tombstone, Outcome::Unknown] {
        require_eq!(case.complete(token(), outcome).await, Ownership::Lost, "a stranger completes");
        case.require_busy("a stranger's completion changes nothing").await;
    }
    require_eq!(case.renew(case.by(owner)).await, Ownership::Held, "the owner is still the owner");
}

/// A recorded answer is final.
pub async fn a_stranger_cannot_complete_again(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (first, outcome) = answer_of("first");
    case.completed_by(token(), outcome).await;
    for outcome in [Outcome::Answer(answer("forged")), Outcome::Tombstone, Outcome::Unknown] {
        require_eq!(case.complete(token(), outcome).await, Ownership::Lost, "a stranger completes again");
        case.require_completed(Some(&first), "a stranger's completion changes nothing").await;
    }
}

/// A completion needs a claim: it brings nothing into being, and nothing back.
pub async fn what_is_absent_cannot_be_completed(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Lost, "a completion of what is absent");
    let first = case.win(case.by(owner)).await;
    require_eq!(case.release(owner).await, Ownership::Held, "the owner releases");
    require_eq!(case.complete(owner, Outcome::Tombstone).await, Ownership::Lost, "a completion of what was released");
    case.require_absent_after(first, "a completion of what is absent").await;
}

/// Between `ttl` and `remember` the answer is gone and the fact is not: a late retry is refused, not run.
pub async fn an_answer_past_its_ttl_is_a_tombstone(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    case.win(case.by(owner)).await;
    let outcome = Outcome::Answer(answer("kept briefly"));
    let complete = Complete::new(case.key, owner, outcome, BRIEF).remember(LONG);
    require_eq!(case.complete_as(complete).await, Ownership::Held, "the owner completes");
    case.pass_brief().await;
    case.require_completed(None, "past `ttl`, before `remember`").await;
    let again = case.complete(owner, Outcome::Answer(answer("again"))).await;
    require_eq!(again, Ownership::Held, "a completion asked again past `ttl`");
    case.require_completed(None, "a completion asked again brings no answer back").await;
}

/// A retry comes after the answer, not after the claim: a handler that ran for long leaves its answer for as long as
/// any other.
pub async fn ttl_counts_from_completion(fixture: &dyn Fixture) {
    const TTL: Duration = Duration::from_millis(500);
    // On a machine that takes longer than `TTL` for two steps nothing can be told; it is asked again.
    for _ in 0..20 {
        let case = Case::new(fixture).await;
        let owner = token();
        case.win(case.by(owner)).await;
        case.pass(TTL).await;
        let completed = Instant::now();
        let outcome = Outcome::Answer(answer("late"));
        let complete = Complete::new(case.key, owner, outcome, TTL).remember(LONG);
        require_eq!(case.complete_as(complete).await, Ownership::Held, "the owner completes");
        match case.look().await {
            Claimed::Completed { answer: Some(_) } => return,
            gone => require!(completed.elapsed() >= TTL, "the answer is kept for {TTL:?} from now: found {gone:?}"),
        }
    }
    panic!("the store failed: it never took less than {TTL:?} for a completion and a claim");
}

/// The window has an end: past it a key may be used again, for anything.
pub async fn an_answer_past_its_remember_is_absent(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = complete_briefly(&case, Outcome::Answer(answer("over"))).await;
    case.require_absent_after(first, "past `remember`").await;
}

/// As for answers.
pub async fn a_tombstone_past_its_remember_is_absent(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = complete_briefly(&case, Outcome::Tombstone).await;
    case.require_absent_after(first, "past `remember`").await;
}

/// What the handler writes to compares fences long after the record that gave them is gone.
pub async fn fences_grow_after_expiry(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let mut last = complete_briefly(&case, Outcome::Tombstone).await;
    for _ in 0..3 {
        let next = complete_briefly(&case, Outcome::Tombstone).await;
        require_grown(last.fence, next.fence);
        last = next;
    }
}

/// A claim that was sent twice may come a second time behind the completion: it runs nothing again, and takes no answer away.
pub async fn what_is_completed_is_completed_to_its_owner_too(fixture: &dyn Fixture) {
    let (kept, tombstone, past) = (Case::new(fixture).await, Case::new(fixture).await, Case::new(fixture).await);
    let owner = token();
    let (answer, outcome) = answer_of("done");
    kept.completed_by(owner, outcome.clone()).await;
    tombstone.completed_by(owner, Outcome::Tombstone).await;
    past.win(past.by(owner)).await;
    let complete = Complete::new(past.key, owner, outcome, BRIEF).remember(LONG);
    require_eq!(past.complete_as(complete).await, Ownership::Held, "the owner completes");
    past.pass_brief().await;
    for (case, answer, what) in [
        (kept, Some(&answer), "completed with an answer"),
        (tombstone, None, "completed without an answer"),
        (past, None, "completed with an answer, past its `ttl`"),
    ] {
        let completed = Claimed::Completed { answer: answer.cloned() };
        require_eq!(case.claim(case.by(owner)).await, completed, "its owner claims what is {what}");
        let unknown = case.by(owner).abandoned(Abandoned::MarkUnknown);
        require_eq!(case.claim(unknown).await, completed, "its owner would make unknown what is {what}");
        case.require_completed(answer, "its owner's claim changes nothing").await;
    }
}

async fn complete_briefly(case: &Case<'_>, outcome: Outcome) -> Won {
    let owner = token();
    let won = case.win(case.by(owner)).await;
    let brief = Complete::new(case.key, owner, outcome, BRIEF);
    require_eq!(case.complete_as(brief).await, Ownership::Held, "the owner completes");
    case.pass_brief().await;
    won
}
