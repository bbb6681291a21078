//! Who may run.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    conformance::{Fixture, case::*},
    key::StorageKey,
    store::{Abandoned, Claim, Claimed, Outcome, Ownership},
};

/// While one owner's lease is alive nobody else wins, from whichever replica. This is the whole promise.
pub async fn a_won_claim_is_exclusive(fixture: &dyn Fixture) {
    let here = Case::new(fixture).await;
    let there = here.elsewhere().await;
    require_eq!(here.win(here.by(token())).await.attempt, 1, "the first claim of a key is attempt 1");
    there.require_busy("the key is somebody else's").await;
    here.require_busy("the key is somebody else's, here too").await;
}

/// A hundred duplicates at the same moment, over several replicas: one runs, and every other is told so.
pub async fn of_a_hundred_claims_at_once_one_is_won(fixture: &dyn Fixture) {
    for _ in 0..5 {
        let case = Case::new(fixture).await;
        let mut claims = JoinSet::new();
        let start = Arc::new(Barrier::new(100));
        let stores =
            [store_of(fixture).await, store_of(fixture).await, store_of(fixture).await, store_of(fixture).await];
        for store in stores.iter().cycle().take(100) {
            let (store, start, claim) = (Arc::clone(store), Arc::clone(&start), case.by(token()));
            claims.spawn(async move {
                start.wait().await;
                answered("claim", store.claim(claim).await)
            });
        }
        let found = claims.join_all().await;
        let count = |is: fn(&Claimed) -> bool| found.iter().filter(|claimed| is(claimed)).count();
        let (won, busy) = (count(|c| matches!(c, Claimed::Won { .. })), count(|c| matches!(c, Claimed::Busy { .. })));
        require_eq!((won, busy), (1, 99), "of a hundred claims one is won and every other is busy");
    }
}

/// A claim whose reply was lost is asked again with its token, and must not be refused as somebody else's.
pub async fn a_claim_asked_again_is_won_again(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let claim = case.by(token());
    let first = case.win(claim).await;
    let there = case.elsewhere().await;
    for _ in 0..3 {
        require_eq!(there.win(claim).await, first, "the same token wins the same fence and attempt");
    }
    case.require_busy("asking again shares nothing with others").await;
}

/// The lease of a claim asked again counts from the last time it was asked, even where it had run out: what was won
/// must hold for as long as was asked for.
pub async fn a_claim_asked_again_starts_its_lease_again(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = token();
    let first = case.abandoned_by(owner).await;
    let again = case.win(case.by(owner).abandoned(Abandoned::MarkUnknown)).await;
    require_eq!(again, first, "nobody took over, so the same token wins the same fence and attempt");
    case.require_busy("the lease has started again").await;
}

/// Once somebody else took over, the token of the earlier owner is a stranger's.
pub async fn a_stale_owner_cannot_claim_again(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let stale = token();
    case.abandoned_by(stale).await;
    case.win(case.by(token())).await;
    let claimed = case.claim(case.by(stale)).await;
    require!(matches!(claimed, Claimed::Busy { .. }), "a stale owner claims again: found {claimed:?} instead of busy");
}

/// `Retry-After` comes from here: more than nothing, no more than the lease, less as time passes.
pub async fn busy_says_what_is_left_of_the_lease(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.win(case.by(token())).await;
    let left = |claimed| match claimed {
        Claimed::Busy { retry_after } => retry_after,
        other => fail(format_args!("a claim in flight is busy, not {other:?}")),
    };
    let first = left(case.look().await);
    require!(!first.is_zero() && first <= LONG, "what is left of {LONG:?} is more than nothing and no more: {first:?}");
    let second = Duration::from_secs(1);
    case.pass(second).await;
    let later = left(case.look().await);
    require!(!later.is_zero() && later <= LONG - second, "a second later no more than {:?}: {later:?}", LONG - second);
}

/// A key that comes with another request is the client's mistake, and is told before anything else is.
pub async fn another_fingerprint_is_a_mismatch_in_flight(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.win(case.by(token())).await;
    require_mismatch(&case).await;
    case.require_busy("a mismatch changes nothing").await;
}

/// The owner's own token does not make another request the same one.
pub async fn another_fingerprint_is_a_mismatch_even_by_the_owner(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let claim = case.by(token());
    case.win(claim).await;
    let claimed = case.claim(Claim { fingerprint: OTHER_PRINT, ..claim }).await;
    require_eq!(claimed, Claimed::Mismatch, "the owner comes with another request");
}

/// An abandoned record is neither taken over by another request nor made unknown by it.
pub async fn another_fingerprint_is_a_mismatch_when_abandoned(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.abandoned_by(token()).await;
    require_mismatch(&case).await;
    require_eq!(case.win(case.by(token())).await.attempt, 2, "a mismatch leaves the record abandoned, for a retry");
}

/// The answer to one request is never given to another.
pub async fn another_fingerprint_is_a_mismatch_when_completed(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let (answer, outcome) = answer_of("mine");
    case.completed_by(token(), outcome).await;
    require_mismatch(&case).await;
    case.require_completed(Some(&answer), "a mismatch leaves the answer").await;
}

/// A tombstone remembers which request it was.
pub async fn another_fingerprint_is_a_mismatch_on_a_tombstone(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.completed_by(token(), Outcome::Tombstone).await;
    require_mismatch(&case).await;
    case.require_completed(None, "a mismatch leaves the tombstone").await;
}

/// An unknown outcome is that of one request; another one is told so.
pub async fn another_fingerprint_is_a_mismatch_when_unknown(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let owner = case.unknown_by(token()).await;
    require_mismatch(&case).await;
    case.require_unknown(owner, "a mismatch leaves the outcome unknown").await;
}

/// Keys are 32 bytes of any value, and one that differs in a single bit is another one.
pub async fn keys_never_meet(fixture: &dyn Fixture) {
    let base = random::<32>();
    let mut keys = vec![base];
    for bit in (0..256).step_by(5) {
        let mut key = base;
        key[bit / 8] ^= 1 << (bit % 8);
        keys.push(key);
    }
    for hostile in [*b"\r\n\r\n", *b"abcd", *b"ABCD", *b"\0\0\0\0", *b"{}{}", *b"';--", *b"::**", [0xff; 4], *b"\"\\  "]
    {
        let mut key = base;
        key[..16].copy_from_slice(&hostile.repeat(4));
        keys.push(key);
    }
    let mut cases = Vec::new();
    for (at, key) in keys.into_iter().enumerate() {
        let case = Case::of(fixture, StorageKey::from_bytes(key)).await;
        let owner = token();
        require_eq!(case.win(case.by(owner)).await.attempt, 1, "each key is its own");
        cases.push((case, owner, answer_of(at.to_string())));
    }
    for (case, owner, (_, outcome)) in &cases {
        require_eq!(case.complete(*owner, outcome.clone()).await, Ownership::Held, "each key has its own owner");
    }
    for (case, _, (answer, _)) in &cases {
        case.require_completed(Some(answer), "each key has its own answer").await;
    }
}

async fn require_mismatch(case: &Case<'_>) {
    for abandoned in [Abandoned::TakeOver, Abandoned::MarkUnknown] {
        let claim = Claim { fingerprint: OTHER_PRINT, abandoned, ..case.by(token()) };
        require_eq!(case.claim(claim).await, Claimed::Mismatch, "the key comes with another request");
    }
}
