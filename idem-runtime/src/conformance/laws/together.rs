//! Many at once.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    conformance::{Fixture, case::*, ways::ways},
    key::StorageKey,
    record::Answer,
    store::{
        Abandoned, Claim, Claimed, Complete, Fence, Outcome, Ownership, Release, Renew, Resolve, Resolved, Store,
        Token, Verdict,
    },
};

/// The moment a lease runs out, everybody who waited comes at once.
pub async fn of_many_that_find_it_abandoned_one_takes_over(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = case.abandoned_by(token()).await;
    let start = Arc::new(Barrier::new(50));
    let mut claims = JoinSet::new();
    for _ in 0..50 {
        let (store, start, claim) = (store_of(fixture).await, Arc::clone(&start), case.by(token()));
        claims.spawn(async move {
            start.wait().await;
            answered("claim", store.claim(claim).await)
        });
    }
    let found = claims.join_all().await;
    let winners: Vec<_> = found.iter().filter_map(won).collect();
    require_eq!(winners.len(), 1, "of many that find it abandoned one takes over, found {found:?}");
    for winner in winners {
        require_eq!(winner.attempt, 2, "one take-over is one attempt more");
        require_grown(first.fence, winner.fence);
    }
    let busy = found.iter().filter(|claimed| matches!(claimed, Claimed::Busy { .. })).count();
    require_eq!(busy, 49, "every other one finds the new owner's lease, found {found:?}");
}

/// The owner wakes at the moment its key is taken over: either its answer stands and is what the other finds, or the
/// other runs and the answer is refused.
pub async fn a_completion_and_a_take_over_never_both_win(fixture: &dyn Fixture) {
    for Race { completion, claimed, after, answer } in race(fixture, Abandoned::TakeOver).await {
        match (completion, claimed, after) {
            (Ownership::Held, found @ Claimed::Completed { .. }, after) => {
                let answer = Claimed::Completed { answer: Some(answer) };
                require_eq!(found, answer, "what was completed first is what the claim finds");
                require_eq!(after, answer, "what was completed first stays");
            }
            (Ownership::Lost, Claimed::Won { attempt: 2, .. }, Claimed::Busy { .. }) => {}
            found => fail(format_args!("a completion and a take-over at once: found {found:?}")),
        }
    }
}

/// An effect whose owner tells in time, or late, is recorded: a claim that calls it unknown meanwhile takes nothing away.
pub async fn a_completion_is_never_lost_to_unknown(fixture: &dyn Fixture) {
    for Race { completion, claimed, after, answer } in race(fixture, Abandoned::MarkUnknown).await {
        let answer = Claimed::Completed { answer: Some(answer) };
        require_eq!(completion, Ownership::Held, "the owner completes, unknown or not");
        let unknown = matches!(claimed, Claimed::Unknown { attempt: 1, .. });
        require!(unknown || claimed == answer, "unknown, or the owner's answer: found {claimed:?}");
        require_eq!(after, answer, "the owner's answer stands in the end");
    }
}

/// Sixteen workers take random steps on four keys. Nobody wins while another owns, every owner's steps are held, every
/// stranger's lost, and the fence of each key grows from owner to owner.
pub async fn a_key_has_one_owner_at_a_time(fixture: &dyn Fixture) {
    const WORKERS: u64 = 16;
    const STEPS: u32 = 150;
    let keys = [(); 4].map(|()| StorageKey::from_bytes(random()));
    let owners = Arc::new(Owners::default());
    let random = RandomState::new();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (store, owners, random) = (store_of(fixture).await, Arc::clone(&owners), random.clone());
        workers.spawn(async move {
            for step in 0..STEPS {
                let dice = random.hash_one((worker, step));
                take_a_step(&*store, &owners, keys[dice as usize % keys.len()], dice >> 8).await;
            }
        });
    }
    // A task that panicked is a law that failed, with its own words.
    while let Some(worker) = workers.join_next().await {
        if let Err(panic) = worker.map_err(tokio::task::JoinError::into_panic) {
            std::panic::resume_unwind(panic);
        }
    }
}

async fn take_a_step(store: &dyn Store, owners: &Owners, key: StorageKey, dice: u64) {
    let owner = token();
    let claim = Claim::new(key, owner, PRINT, LONG).retention(None);
    let release = Release::new(key, owner);
    match answered("claim", store.claim(claim).await) {
        Claimed::Won { fence, attempt } => {
            require_eq!(attempt, 1, "nobody took over, so every claim is the first attempt");
            owners.enter(key, owner, fence);
            tokio::task::yield_now().await;
            require_eq!(answered("renew", store.renew(Renew::of(&claim)).await), Ownership::Held, "the owner renews");
            if dice.is_multiple_of(4) {
                let unknown = Complete::new(key, owner, Outcome::Unknown, LONG);
                require_eq!(
                    answered("complete", store.complete(&unknown).await),
                    Ownership::Held,
                    "the owner completes"
                );
                owners.leave(key);
                let verdict = Resolve::new(key, Verdict::NotExecuted).fence(fence);
                let resolved = answered("resolve", store.resolve(&verdict).await);
                require_eq!(resolved, Resolved::Applied, "a verdict on the unknown record's own fence");
            } else {
                owners.leave(key);
                require_eq!(answered("release", store.release(release).await), Ownership::Held, "the owner releases");
            }
        }
        Claimed::Busy { .. } | Claimed::Unknown { .. } => {
            let lost = match dice % 3 {
                0 => answered("release", store.release(release).await),
                1 => answered("renew", store.renew(Renew::of(&claim)).await),
                _ => {
                    let forged = Complete::new(key, owner, Outcome::Tombstone, LONG);
                    answered("complete", store.complete(&forged).await)
                }
            };
            require_eq!(lost, Ownership::Lost, "a stranger takes a step");
        }
        other => fail(format_args!("nothing was completed, and one fingerprint used: found {other:?}")),
    }
}

/// Who owns each key, as its owners see it.
#[derive(Default)]
struct Owners(Mutex<HashMap<StorageKey, (Option<Token>, Fence)>>);

impl Owners {
    fn enter(&self, key: StorageKey, owner: Token, fence: Fence) {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, last_fence)) = owners.insert(key, (Some(owner), fence)) {
            require!(last.is_none(), "two owners of one key at once");
            require_grown(last_fence, fence);
        }
    }

    fn leave(&self, key: StorageKey) {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((owner, _)) = owners.get_mut(&key) {
            *owner = None;
        }
    }
}

/// What came of a completion and a claim at once.
struct Race {
    completion: Ownership,
    claimed: Claimed,
    after: Claimed,
    answer: Answer,
}

/// Abandoned keys, for each of which its owner completes while another claims.
async fn race(fixture: &dyn Fixture, abandoned: Abandoned) -> Vec<Race> {
    let mut cases = Vec::new();
    for way in ways().chain(ways()) {
        let case = Case::new(fixture).await;
        let owner = token();
        case.win(case.briefly(owner)).await;
        cases.push((way, case, owner, answer_of(random::<8>())));
    }
    fixture.pass(2 * BRIEF).await;
    let mut found = Vec::new();
    for (way, case, owner, (answer, outcome)) in cases {
        let there = store_of(fixture).await;
        let claim = Claim { abandoned, ..case.by(token()) };
        let claiming = async move { answered("claim", there.claim(claim).await) };
        let (completion, claimed) = way.take(case.complete(owner, outcome), claiming).await;
        found.push(Race { completion, claimed, after: case.look().await, answer });
    }
    found
}
