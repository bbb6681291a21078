//! Many claims in one round trip.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    conformance::{Fixture, case::*},
    key::StorageKey,
    store::{Abandoned, Claim, Claimed, Outcome, Ownership, Store},
};

/// A worker asks for a batch of events and runs those that it won: one answer too far to the left, and it runs what is
/// somebody else's.
pub async fn many_claims_are_answered_in_their_order(fixture: &dyn Fixture) {
    let (answer, outcome) = answer_of("done");
    let note = crate::conformance::case::answer("why");
    let cases = cases(fixture, 10).await;
    let [absent, busy, own, other, out, completed, tombstone, unknown, remembered, parked] = &cases[..] else {
        unreachable!("ten cases")
    };
    let owner = token();
    busy.win(busy.by(token())).await;
    let owned = own.win(own.by(owner)).await;
    other.win(other.by(token())).await;
    completed.completed_by(token(), outcome).await;
    tombstone.completed_by(token(), Outcome::Tombstone).await;
    let asked = unknown.unknown_by(token()).await;
    let tried = remembered.remembered_by(token()).await;
    let aside = parked.parked_by(token(), &note).await;
    let left = out.abandoned_by(token()).await;

    let claims = [
        parked.by(token()),
        absent.by(token()),
        completed.by(token()),
        remembered.by(token()),
        busy.by(token()),
        Claim { fingerprint: OTHER_PRINT, ..other.by(token()) },
        own.by(owner),
        unknown.by(token()),
        tombstone.by(token()),
        out.by(token()),
    ];
    let found = claim_many(&*store_of(fixture).await, &claims).await;
    require_eq!(found.len(), claims.len(), "one answer for each claim");
    require_eq!(
        found[0],
        Claimed::Parked { note, fence: aside.fence, attempt: aside.attempt },
        "the first of many claims, of what is parked"
    );
    require_eq!(won(&found[1]).map(|won| won.attempt), Some(1), "the second of many claims, of what is absent");
    require_eq!(
        found[2],
        Claimed::Completed { answer: Some(answer) },
        "the third of many claims, of what is completed"
    );
    let next = won(&found[3]);
    require_eq!(next.map(|won| won.attempt), Some(2), "the fourth of many claims, of what was released and remembered");
    require!(next.is_some_and(|next| next.fence > tried.fence), "a remembered attempt is followed by a larger fence");
    require!(matches!(found[4], Claimed::Busy { .. }), "the fifth of many claims finds its key busy: {:?}", found[4]);
    require_eq!(found[5], Claimed::Mismatch, "the sixth of many claims, with another fingerprint");
    require_eq!(won(&found[6]), Some(owned), "the seventh of many claims, by the owner");
    require_eq!(
        found[7],
        Claimed::Unknown { fence: asked.fence, attempt: asked.attempt },
        "the eighth of many claims, of what is unknown"
    );
    require_eq!(found[8], Claimed::Completed { answer: None }, "the ninth of many claims, of a tombstone");
    let taken = won(&found[9]);
    require_eq!(taken.map(|won| won.attempt), Some(2), "the tenth of many claims, of what was abandoned");
    require!(taken.is_some_and(|taken| taken.fence > left.fence), "a take-over is followed by a larger fence");
    require_eq!(claim_many(&*absent.store, &[]).await, [], "no claims, no answers");
}

/// Each of them is a claim like any other: its owner owns it, and nobody else.
pub async fn each_of_many_claims_is_exclusive(fixture: &dyn Fixture) {
    let cases = cases(fixture, 300).await;
    let owners: Vec<_> = cases.iter().map(|case| case.by(token())).collect();
    let found = claim_many(&*store_of(fixture).await, &owners).await;
    for (claimed, case) in found.iter().zip(&cases) {
        require_eq!(won(claimed).map(|won| won.attempt), Some(1), "a claim among many of what is absent");
        case.require_busy("claimed among many").await;
    }
    let strangers: Vec<_> = cases.iter().map(|case| case.by(token())).collect();
    let second = claim_many(&*store_of(fixture).await, &strangers).await;
    require!(
        second.iter().all(|claimed| matches!(claimed, Claimed::Busy { .. })),
        "what was claimed among many is busy for others, found {second:?}"
    );
    let again = claim_many(&*store_of(fixture).await, &owners).await;
    require_eq!(again, found, "many claims asked again are won again");
    for (owner, case) in owners.iter().zip(&cases).step_by(10) {
        require_eq!(case.renew(*owner).await, Ownership::Held, "the owner of one of many claims renews it");
        let (answer, outcome) = answer_of(case.key.as_bytes());
        require_eq!(case.complete(owner.token, outcome).await, Ownership::Held, "and completes it");
        case.require_completed(Some(&answer), "completed after it was claimed among many").await;
    }
}

/// A broker delivers one event twice in one batch.
pub async fn of_two_claims_of_one_key_in_a_batch_the_second_finds_the_first(fixture: &dyn Fixture) {
    let (twice, other, alone) = (Case::new(fixture).await, Case::new(fixture).await, Case::new(fixture).await);
    let (first, second) = (token(), token());
    let claims = [
        twice.by(first),
        other.by(first),
        twice.by(second),
        alone.by(first),
        Claim { fingerprint: OTHER_PRINT, ..other.by(second) },
        twice.by(first),
    ];
    let found = claim_many(&*twice.store, &claims).await;
    let owner = won(&found[0]);
    require!(owner.is_some(), "the first of two claims of one key is won, found {found:?}");
    require!(matches!(found[2], Claimed::Busy { .. }), "the second finds the first, found {found:?}");
    require_eq!(won(&found[5]), owner, "the first one asked again in the same batch");
    require!(won(&found[1]).is_some() && won(&found[3]).is_some(), "the others are won, found {found:?}");
    require_eq!(found[4], Claimed::Mismatch, "the second, with another fingerprint");
    require_eq!(twice.renew(twice.by(first)).await, Ownership::Held, "the first one is the owner");
    require_eq!(twice.renew(twice.by(second)).await, Ownership::Lost, "the second one is not");
}

/// Batches and single claims of the same keys, in every order, at once.
pub async fn of_batches_and_single_claims_at_once_one_wins_each_key(fixture: &dyn Fixture) {
    const KEYS: usize = 12;
    const WORKERS: usize = 8;
    let keys: Vec<_> = (0..KEYS).map(|_| StorageKey::from_bytes(random())).collect();
    let start = Arc::new(Barrier::new(WORKERS));
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (store, start, mut keys) = (store_of(fixture).await, Arc::clone(&start), keys.clone());
        keys.rotate_left(worker);
        if worker % 4 == 1 {
            keys.reverse();
        }
        workers.spawn(async move {
            start.wait().await;
            let claims: Vec<_> = keys.iter().map(|key| Claim::new(*key, token(), PRINT, LONG)).collect();
            let found = if worker % 2 == 0 {
                claim_many(&*store, &claims).await
            } else {
                let mut found = Vec::new();
                for claim in claims {
                    // The batches shall find some keys claimed and some not.
                    tokio::task::yield_now().await;
                    found.push(answered("claim", store.claim(claim).await));
                }
                found
            };
            keys.into_iter().zip(found).collect::<Vec<_>>()
        });
    }
    let found = workers.join_all().await.concat();
    for key in keys {
        let of_key = || found.iter().filter(|(of, _)| *of == key).map(|(_, claimed)| claimed);
        require_eq!(of_key().filter_map(won).count(), 1, "of claims at once, many or single, one is won");
        let busy = of_key()
            .filter(|claimed| matches!(claimed, Claimed::Busy { retry_after } if *retry_after > Duration::ZERO));
        require_eq!(busy.count(), WORKERS - 1, "every other one is told that somebody runs");
    }
}

/// A payment that must not run twice is not taken over because the claim before it may take over what it finds.
pub async fn each_of_many_claims_says_what_becomes_of_what_was_abandoned(fixture: &dyn Fixture) {
    let rules = [Abandoned::TakeOver, Abandoned::MarkUnknown, Abandoned::TakeOver, Abandoned::MarkUnknown];
    let cases = cases(fixture, rules.len()).await;
    let mut owners = Vec::new();
    for case in &cases {
        owners.push(case.win(case.briefly(token())).await);
    }
    cases[0].pass_brief().await;
    let claims: Vec<_> = cases.iter().zip(rules).map(|(case, rule)| case.by(token()).abandoned(rule)).collect();
    let found = claim_many(&*store_of(fixture).await, &claims).await;
    require_eq!(found.len(), claims.len(), "one answer for each claim");
    for ((case, owner), (rule, found)) in cases.iter().zip(owners).zip(rules.into_iter().zip(found)) {
        if rule == Abandoned::MarkUnknown {
            let unknown = Claimed::Unknown { fence: owner.fence, attempt: owner.attempt };
            require_eq!(found, unknown, "one of many claims asks for unknown");
            case.require_unknown(owner, "unknown stays unknown for those who would take over").await;
        } else {
            require_eq!(won(&found).map(|won| won.attempt), Some(2), "one of many claims takes over");
            case.require_busy("who took over is the owner").await;
        }
    }
}

/// A batch has no times of its own: how long a claim holds, and is seen once it is abandoned, is what it says itself.
pub async fn each_of_many_claims_has_its_own_lease_and_retention(fixture: &dyn Fixture) {
    let cases = cases(fixture, 4).await;
    let [held, forgotten, kept, also_held] = &cases[..] else { unreachable!("four cases") };
    let claims = [
        held.by(token()),
        forgotten.briefly(token()).retention(Some(BRIEF)),
        kept.briefly(token()).retention(None),
        also_held.by(token()).retention(None),
    ];
    let found = claim_many(&*store_of(fixture).await, &claims).await;
    let owners: Vec<_> = found.iter().filter_map(won).collect();
    require_eq!(owners.len(), claims.len(), "each of many claims of what is absent is won");
    held.pass(4 * BRIEF).await;
    held.require_busy("its lease is alive, whatever those beside it are").await;
    also_held.require_busy("its lease is alive, whatever those beside it are").await;
    forgotten.require_absent_after(owners[1], "past lease and retention").await;
    let other = Claim { fingerprint: OTHER_PRINT, ..kept.by(token()) };
    require_eq!(kept.claim(other).await, Claimed::Mismatch, "claimed without an end to its retention, it is there");
    kept.require_unknown(owners[2], "claimed without an end to its retention, it is seen").await;
}

async fn cases(fixture: &dyn Fixture, many: usize) -> Vec<Case<'_>> {
    let mut cases = vec![Case::new(fixture).await];
    // One connection for all of them.
    while let (Some(case), true) = (cases.last(), cases.len() < many) {
        cases.push(case.another());
    }
    cases
}

async fn claim_many(store: &dyn Store, claims: &[Claim]) -> Vec<Claimed> {
    store.claim_many(claims).await.into_iter().map(|claimed| answered("claim_many", claimed)).collect()
}
