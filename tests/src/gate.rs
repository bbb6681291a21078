//! A place where something stands still until a test lets it go on.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// Closed until it is opened. Clones are one gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    reached: usize,
    open: bool,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets everyone through, from now on.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Lets nobody through any more.
    pub fn close(&self) {
        self.0.send_modify(|state| state.open = false);
    }

    /// Comes by, and does not wait.
    pub fn mark(&self) {
        self.0.send_modify(|state| state.reached += 1);
    }

    /// Goes through, once it is open.
    pub async fn pass(&self) {
        self.mark();
        self.until(|state| state.open).await;
    }

    /// Until somebody stands before it, or has gone through.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Until so many came.
    ///
    /// # Panics
    ///
    /// If they do not: it takes a minute to be sure.
    pub async fn reached_by(&self, many: usize) {
        let come = self.until(|state| state.reached >= many);
        let come = tokio::time::timeout(Duration::from_secs(60), come).await;
        assert!(come.is_ok(), "{:?}, and {many} should have come", *self.0.borrow());
    }

    async fn until(&self, is: impl Fn(&State) -> bool) {
        let mut state = self.0.subscribe();
        assert!(state.wait_for(|state| is(state)).await.is_ok(), "a gate lives as long as who waits at it");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
