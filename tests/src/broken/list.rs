//! The list of what is parked, right but for the fault.

use idem_runtime::{
    Answer, Clock, StorageKey,
    store::{Fence, Parked, ParkedRecord},
};

use super::{Broken, Fault, When, book::Page};

impl Broken {
    pub(super) async fn list(&self, Parked { after, limit, .. }: Parked) -> Vec<ParkedRecord> {
        let pages = self.book.pages();
        if self.fault == Some(Fault::ListForgetsInTwoSteps) {
            self.forget_in_two_steps(after, pages.iter()).await;
        }
        let is_behind = |key: &StorageKey| match self.fault {
            Some(Fault::ListIgnoresAfter) => true,
            Some(Fault::ListIncludesAfter) => after.is_none_or(|after| *key >= after),
            _ => after.is_none_or(|after| *key > after),
        };
        let unreadable: Vec<_> = pages.iter().filter(|(_, page)| page.damaged).map(|(key, _)| *key).collect();
        let has_a_place = |key: &StorageKey| match self.fault {
            Some(Fault::ListsWhatCannotBeRead | Fault::ListCountsWhatCannotBeRead) => true,
            _ => !unreadable.contains(key),
        };
        let mut records: Vec<_> = pages
            .into_iter()
            .filter(|(key, page)| is_behind(key) && page.is_listed && has_a_place(key))
            .filter_map(|(key, page)| Some((self.listed(key, &page)?, page.when(self.clock.now()))))
            .collect();
        if self.fault == Some(Fault::ListsInTheOrderOfParking) {
            records.sort_by_key(|(record, _)| record.fence);
        }
        if self.fault != Some(Fault::ListIgnoresItsLimit) {
            records.truncate(limit);
        }
        if self.fault == Some(Fault::ListCountsWhatIsSettled) {
            records.retain(|(_, when)| *when == When::Parked);
        }
        if self.fault == Some(Fault::ListCountsWhatCannotBeRead) {
            records.retain(|(record, _)| !unreadable.contains(&record.key));
        }
        records.into_iter().map(|(record, _)| record).collect()
    }

    fn listed(&self, key: StorageKey, page: &Page) -> Option<ParkedRecord> {
        let when = page.when(self.clock.now());
        match self.fault {
            Some(Fault::ListsNothing) => None,
            Some(Fault::ListsNoVerdicts) if page.resolved => None,
            Some(Fault::ListsWhatWasParked | Fault::ListCountsWhatIsSettled) => page.parked.clone(),
            Some(Fault::ListsWhatIs(what)) if when == what => {
                let note = Answer::from_bytes(bytes::Bytes::new());
                Some(ParkedRecord::new(key, note, page.fence, page.attempt))
            }
            Some(Fault::ListsWithoutFences) => {
                let record = page.parked.clone().filter(|_| when == When::Parked)?;
                Some(ParkedRecord::new(key, record.note, Fence::new(0), record.attempt))
            }
            _ => page.parked.clone().filter(|_| when == When::Parked),
        }
    }

    /// Sees what is not parked, and drops it from the list when it may be.
    async fn forget_in_two_steps(
        &self,
        after: Option<StorageKey>,
        pages: impl Iterator<Item = (&StorageKey, &Page)> + Send,
    ) {
        let is_gone =
            |(key, page): &(&StorageKey, &Page)| after < Some(**key) && page.when(self.clock.now()) == When::Absent;
        let gone: Vec<_> = pages.filter(is_gone).map(|(key, _)| *key).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        for key in gone {
            self.book.write(key, |page| page.is_listed = false);
        }
    }

    /// What goes wrong between two steps needs somebody to come between them; whoever is about to, is given the time.
    pub(super) async fn until_unlisted(&self, key: StorageKey) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
            if !self.book.write(key, |page| page.is_listed) {
                return;
            }
        }
    }
}
