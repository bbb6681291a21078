//! Steps in two halves: what was read is written back, over what came between.

use idem_runtime::{
    Clock, StorageKey,
    store::{Claimed, Ownership, Resolve, Resolved, Verdict},
};

use super::{Broken, Fault, When, book::Page};

impl Broken {
    /// Between the halves. One turn for everybody else: a law must not need more to find it.
    pub(super) async fn turn_between_halves(&self) {
        if let Some(Fault::RenewsOver(_) | Fault::ReleasesOver(_) | Fault::ResolvesOver(_)) = self.fault {
            tokio::task::yield_now().await;
        }
    }

    /// What becomes of a renewal that the right store refuses.
    pub(super) fn renew_over(&self, key: StorageKey, was_own: bool) -> Ownership {
        let Some(Fault::RenewsOver(what)) = self.fault else { return Ownership::Lost };
        if !was_own || self.book.page(key).when(self.clock.now()) != what {
            return Ownership::Lost;
        }
        self.book.write(key, |page| page.overlay = Some(Claimed::Busy { retry_after: super::store::FOREVER }));
        Ownership::Held
    }

    /// What becomes of a release that the right store refuses.
    pub(super) fn release_over(&self, key: StorageKey, was_own: bool) -> Ownership {
        let Some(Fault::ReleasesOver(what)) = self.fault else { return Ownership::Lost };
        if !was_own || self.book.page(key).when(self.clock.now()) != what {
            return Ownership::Lost;
        }
        self.book.write(key, Page::forget);
        Ownership::Held
    }

    /// What becomes of a verdict that the right store refuses.
    pub(super) fn resolve_over(&self, key: StorageKey, was: When, resolve: &Resolve) -> Resolved {
        let Some(Fault::ResolvesOver(what)) = self.fault else { return Resolved::NotUnknown };
        let could = matches!(was, When::Unknown | When::Parked);
        if !could || self.book.page(key).when(self.clock.now()) != what {
            return Resolved::NotUnknown;
        }
        self.book.write(key, |page| match &resolve.verdict {
            Verdict::Completed { answer, .. } => page.overlay = Some(Claimed::Completed { answer: answer.clone() }),
            _ => page.forget(),
        });
        Resolved::Applied
    }
}
