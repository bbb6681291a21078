//! A restart that forgets nothing, unless the fault says so.

use std::time::Duration;

use async_trait::async_trait;
use idem_runtime::{
    Clock, StorageKey, Store,
    conformance::Restartable,
    store::{Claim, Claimed, Renew},
};

use super::{Broken, Fault, book::Page};

#[async_trait]
impl Restartable for Broken {
    async fn restart(&self) {
        self.clock.advance(Duration::from_micros(1));
        for (key, page) in self.book.pages() {
            let when = page.when(self.clock.now());
            match self.fault {
                Some(Fault::RestartForgets(what)) if when == what => self.book.write(key, Page::forget),
                Some(Fault::RestartForgetsWhatIsBy(origin)) if page.origin == origin => {
                    self.book.write(key, Page::forget);
                }
                Some(Fault::RestartForgetsRenewals) => self.forget_renewal(key, &page).await,
                Some(Fault::RestartForgetsVerdicts(what)) if page.resolved && when == what => {
                    let unknown = Claimed::Unknown { fence: page.fence, attempt: page.attempt };
                    self.book.write(key, |page| page.overlay = Some(unknown));
                }
                Some(Fault::RestartForgetsTheList) => self.book.write(key, |page| page.is_listed = false),
                _ => {}
            }
        }
    }
}

impl Broken {
    /// The lease ends when it would have ended without.
    async fn forget_renewal(&self, key: StorageKey, page: &Page) {
        let Some(end) = page.unrenewed_end else { return };
        let left = Duration::from_micros(end.saturating_sub(self.clock.now()));
        let claim = Claim::new(page.inner_key(key), page.token, page.fingerprint, left).retention(page.retention);
        _ = self.inner.renew(Renew::of(&claim)).await;
    }
}
