//! The list in which an operator finds what is parked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinSet;

use crate::{
    conformance::{Fixture, case::*},
    key::StorageKey,
    record::Answer,
    store::{Claim, Complete, Outcome, Ownership, Parked, ParkedRecord, Resolve, Resolved, Store, Verdict},
};

/// However it was parked.
pub async fn every_parked_record_is_listed(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    let note = answer("why");
    let (owned, asked, renamed) = (&shelf.case(1), &shelf.case(2), &shelf.case(3));
    owned.remembered_by(token()).await;
    let of_owned = owned.parked_by(token(), &note).await;
    let of_asked = asked.unknown_by(token()).await;
    require_eq!(asked.resolve(Verdict::Parked(note.clone())).await, Resolved::Applied, "a verdict on what is unknown");
    let of_renamed = renamed.parked_by(token(), &note).await;
    let other = answer(random::<3_000>());
    require_eq!(renamed.resolve(Verdict::Parked(other.clone())).await, Resolved::Applied, "a new note");
    let wanted = [listed(owned, of_owned, &note), listed(asked, of_asked, &note), listed(renamed, of_renamed, &other)];
    require_eq!(shelf.all(10).await, wanted, "what is parked is listed with its note, fence and attempt");
}

/// Page by page, each record in one of them.
pub async fn what_is_parked_is_listed_in_pages_in_the_order_of_keys(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    // Not in the order of their keys.
    for at in [5, 1, 9, 3, 8, 2, 7] {
        shelf.case(at).parked_by(token(), &answer([at])).await;
    }
    for limit in [1, 2, 3, 7, 100] {
        let keys: Vec<_> = shelf.all(limit).await.iter().map(|record| record.note.as_bytes().to_vec()).collect();
        require_eq!(keys, [1, 2, 3, 5, 7, 8, 9].map(|at| vec![at]), "pages of {limit}, one behind the other");
    }
    let behind = page(&*shelf.store, Parked::first(2).after(shelf.key(5))).await;
    let notes: Vec<_> = behind.iter().map(|record| record.note.as_bytes().to_vec()).collect();
    require_eq!(notes, [[7], [8]], "the page behind a record");
    let between = page(&*shelf.store, Parked::first(1).after(shelf.key(4))).await;
    require_eq!(between.first().map(|record| record.key), Some(shelf.key(5)), "the page behind what is not parked");
    require_eq!(page(&*shelf.store, Parked::first(0)).await, [], "a page of none");
}

/// What an operator has settled is gone from the list, and back in it when it is parked again.
pub async fn what_is_settled_is_no_longer_listed(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    let cases = [shelf.case(1), shelf.case(2), shelf.case(3)];
    let ran = |answer: Option<Answer>| Verdict::Completed { answer, ttl: LONG, remember: LONG };
    for round in 0..3 {
        let verdicts = [ran(Some(answer("by hand"))), Verdict::NotExecuted, ran(None)];
        for (case, verdict) in cases.iter().zip(verdicts) {
            if round > 0 && verdict != Verdict::NotExecuted {
                continue;
            }
            let note = answer([round]);
            let owner = case.parked_by(token(), &note).await;
            let found = shelf.all(10).await;
            require!(found.contains(&listed(case, owner, &note)), "what is parked is listed, found {found:?}");
            require_eq!(case.resolve(verdict).await, Resolved::Applied, "a verdict on what is parked");
            require_eq!(shelf.all(10).await, [], "what is settled is no longer listed");
        }
    }
}

/// An operator is not shown what nobody put aside.
pub async fn what_is_not_parked_is_not_listed(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    let (_, outcome) = answer_of("done");
    shelf.case(1).win(shelf.case(1).by(token())).await;
    shelf.case(2).completed_by(token(), outcome).await;
    shelf.case(3).completed_by(token(), Outcome::Tombstone).await;
    shelf.case(4).unknown_by(token()).await;
    shelf.case(5).remembered_by(token()).await;
    for at in 1..=4 {
        let stranger = Outcome::Parked(answer("forged"));
        require_eq!(shelf.case(at).complete(token(), stranger).await, Ownership::Lost, "a stranger parks");
    }
    shelf.case(6).abandoned_by(token()).await;
    let verdict = Verdict::Parked(answer("forged"));
    require_eq!(shelf.case(7).resolve(verdict).await, Resolved::NotUnknown, "a verdict parks what is absent");
    require_eq!(shelf.all(10).await, [], "what is not parked is not listed");
}

/// Who gets fewer than asked for has seen them all, however many were settled in between.
pub async fn a_page_is_full_unless_it_is_the_last(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    for at in 1..=9 {
        shelf.case(at).parked_by(token(), &answer([at])).await;
    }
    for at in [1, 2, 3, 5, 6, 7] {
        require_eq!(
            shelf.case(at).resolve(Verdict::NotExecuted).await,
            Resolved::Applied,
            "a verdict on what is parked"
        );
    }
    let found = page(&*shelf.store, Parked::first(2).after(shelf.key(0))).await;
    let keys: Vec<_> = found.iter().map(|record| record.key).collect();
    require_eq!(keys, [shelf.key(4), shelf.key(8)], "a page of two");
    let keys: Vec<_> = shelf.all(2).await.iter().map(|record| record.key).collect();
    require_eq!(keys, [4, 8, 9].map(|at| shelf.key(at)), "all of them in pages of two");
}

/// Some list while others park, settle and park again: whoever parked finds its record at once.
pub async fn what_is_parked_while_others_list_is_listed(fixture: &dyn Fixture) {
    let shelf = Shelf::new(fixture).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut listers = JoinSet::new();
    for _ in 0..3 {
        let (store, over, shelf) = (store_of(fixture).await, Arc::clone(&over), shelf.prefix);
        listers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                page(&*store, Parked::first(50).after(key(shelf, 0))).await;
                tokio::task::yield_now().await;
            }
        });
    }
    let mut workers = JoinSet::new();
    for at in 1..=4 {
        let (store, shelf) = (store_of(fixture).await, shelf.prefix);
        workers.spawn(async move {
            let (first, key) = (key(shelf, 0), key(shelf, at));
            for _ in 0..25 {
                let claim = Claim::new(key, token(), PRINT, LONG);
                let claimed = answered("claim", store.claim(claim).await);
                let Some(owner) = won(&claimed) else { fail(format_args!("settled and free, found {claimed:?}")) };
                let parked = Complete::new(key, claim.token, Outcome::Parked(answer("why")), LONG);
                require_eq!(answered("complete", store.complete(&parked).await), Ownership::Held, "the owner parks");
                let found = page(&*store, Parked::first(50).after(first)).await;
                require!(
                    found.iter().any(|record| record.key == key && record.fence == owner.fence),
                    "what is parked is listed, whoever lists meanwhile: found {found:?}"
                );
                let resolve = Resolve::new(key, Verdict::NotExecuted).fence(owner.fence);
                require_eq!(answered("resolve", store.resolve(&resolve).await), Resolved::Applied, "it is settled");
                // Somebody shall see that there is nothing.
                tokio::task::yield_now().await;
            }
        });
    }
    let mut ended = Ok(());
    while let Some(worker) = workers.join_next().await {
        ended = ended.and(worker);
    }
    over.store(true, Ordering::Relaxed);
    listers.join_all().await;
    // A task that panicked is a law that failed, with its own words.
    if let Err(panic) = ended.map_err(tokio::task::JoinError::into_panic) {
        std::panic::resume_unwind(panic);
    }
}

/// Keys that lie side by side, so that a list of them can be read apart from all others.
pub(super) struct Shelf<'a> {
    fixture: &'a dyn Fixture,
    store: Arc<dyn Store>,
    prefix: [u8; 31],
}

impl<'a> Shelf<'a> {
    pub(super) async fn new(fixture: &'a dyn Fixture) -> Self {
        Self { fixture, store: store_of(fixture).await, prefix: random() }
    }

    pub(super) fn key(&self, at: u8) -> StorageKey {
        key(self.prefix, at)
    }

    pub(super) fn case(&self, at: u8) -> Case<'a> {
        Case::on(self.fixture, Arc::clone(&self.store), self.key(at))
    }

    /// Every record of the shelf, in pages.
    pub(super) async fn all(&self, limit: usize) -> Vec<ParkedRecord> {
        let mut all = Vec::new();
        let mut parked = Parked::first(limit).after(self.key(0));
        loop {
            let page = page(&*self.store, parked).await;
            require!(page.len() <= limit, "a page of at most {limit}, found {}", page.len());
            let is_last = page.len() < limit;
            let last = page.last().map(|record| record.key);
            let ours = page.iter().filter(|record| record.key.as_bytes()[..31] == self.prefix).count();
            let is_behind = ours < page.len();
            all.extend(page.into_iter().take(ours));
            require!(all.len() <= 255, "more records than there are keys: a page does not begin behind the last");
            match last {
                Some(last) if !is_last && !is_behind => parked = parked.after(last),
                _ => return all,
            }
        }
    }
}

fn key(shelf: [u8; 31], at: u8) -> StorageKey {
    let mut key = [at; 32];
    key[..31].copy_from_slice(&shelf);
    StorageKey::from_bytes(key)
}

fn listed(case: &Case<'_>, owner: Won, note: &Answer) -> ParkedRecord {
    ParkedRecord::new(case.key, note.clone(), owner.fence, owner.attempt)
}
