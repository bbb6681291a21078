//! What a running operation knows of its claim.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Engine;
use crate::{
    derive::downstream_key,
    store::{Claim, Fence, Ownership, Renew, StoreError},
};

/// The claim under which an operation runs. A handler takes it as an argument.
///
/// ```
/// # use idem_runtime::Attempt;
/// async fn charge(attempt: Attempt) -> String {
///     // The payment provider sees one key for this operation, however often we have to try.
///     attempt.downstream_key("charge")
/// }
/// ```
#[derive(Clone)]
pub struct Attempt(Slot);

/// What an attempt and whoever runs it share.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Run>);

#[derive(Default)]
struct Run {
    /// Filled when the claim is won; until then the handler does not run, so nobody sees it empty.
    won: OnceLock<Won>,
    /// Whether the handler said that nobody can tell what it did.
    unknown: AtomicBool,
}

/// A won claim, lent to the effect that runs under it. Most never ask for it.
#[derive(Clone, Copy)]
pub(crate) struct Granted<'a> {
    engine: &'a Engine,
    lease: Renew,
    fence: Fence,
    attempt: u32,
}

/// A won claim.
#[derive(Clone)]
pub(crate) struct Won {
    engine: Engine,
    lease: Renew,
    fence: Fence,
    attempt: u32,
    /// Whether nobody else can own the operation: as long as the transaction is open in which it was claimed, and always without a
    /// key. `None`: the store knows.
    alone: Option<Arc<AtomicBool>>,
}

/// Of what runs although the store gave no answer: below every real one, so that what is written elsewhere under a fence
/// refuses it.
pub(super) const NO_FENCE: Fence = Fence::new(0);

impl<'a> Granted<'a> {
    pub(super) fn new(engine: &'a Engine, claim: &Claim, fence: Fence, attempt: u32) -> Self {
        Self { engine, lease: Renew::of(claim), fence, attempt }
    }

    pub(crate) fn keep(&self) -> Won {
        let Self { engine, lease, fence, attempt } = *self;
        Won { engine: engine.clone(), lease, fence, attempt, alone: None }
    }
}

impl Won {
    pub(super) fn alone(engine: &Engine, claim: &Claim, fence: Fence, attempt: u32, open: Arc<AtomicBool>) -> Self {
        Self { alone: Some(open), ..Granted::new(engine, claim, fence, attempt).keep() }
    }

    pub(crate) const fn number(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn into_attempt(self) -> Attempt {
        let slot = Slot::default();
        fill(&slot, self);
        Attempt(slot)
    }
}

pub(crate) fn fill(slot: &Slot, won: Won) {
    // A slot belongs to one run of one request, which fills it once.
    let _ = slot.0.won.set(won);
}

impl Slot {
    pub(crate) fn is_unknown(&self) -> bool {
        self.0.unknown.load(Ordering::Acquire)
    }
}

impl Attempt {
    pub(crate) const fn of(slot: Slot) -> Self {
        Self(slot)
    }

    /// Which attempt at this operation it is: 1, and one more each time an abandoned one is taken over or, of an event, a failed one is
    /// followed by the next.
    pub fn number(&self) -> u32 {
        self.won().attempt
    }

    /// Larger than that of every earlier attempt at this operation, for what is written elsewhere under a fence. 0, which is below
    /// all, where it runs without a key, or without the store by `on_store_error = run`.
    pub fn fence(&self) -> Fence {
        self.won().fence
    }

    /// An idempotency key for one step of this operation at somebody else's service: 64 hex digits, the same at
    /// every attempt, another for every step and every operation.
    ///
    /// The same for a corrected request, too: where an answer has freed the key, as an error's does, the next request with it runs whatever
    /// it asks for. A service that compares what it is asked for refuses it then; for one that goes by the key alone, name in
    /// `step` what must not change: `downstream_key(&format!("charge:{amount}:{currency}"))`.
    pub fn downstream_key(&self, step: &str) -> String {
        downstream_key(&self.won().lease.key, step)
    }

    /// Says that nobody can tell whether the operation took effect, as where the connection broke after the charge was sent.
    ///
    /// ```
    /// # use idem_runtime::Attempt;
    /// # struct Broken { sent: bool }
    /// # async fn send_charge(key: String) -> Result<u64, Broken> { Ok(1) }
    /// async fn charge(attempt: Attempt) -> Result<u64, &'static str> {
    ///     send_charge(attempt.downstream_key("charge")).await.map_err(|broken| {
    ///         if broken.sent {
    ///             attempt.mark_unknown();
    ///         }
    ///         "the provider cannot be reached"
    ///     })
    /// }
    /// ```
    ///
    /// If the attempt ends in an error that would free its key, the outcome is unknown instead, whatever `on_abandoned` says: nothing
    /// runs until that is settled, by a recovery function or by hand. An event is parked for it. What is returned or answered to be
    /// kept is kept all the same, and what runs in a transaction is rolled back and never unknown. After a panic `on_abandoned` decides.
    pub fn mark_unknown(&self) {
        self.0.0.unknown.store(true, Ordering::Release);
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.0.is_unknown()
    }

    /// Asks the store whether this attempt still owns the operation, and starts its lease again if so. In a transaction: whether
    /// that is open. Without a key: always.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn still_owner(&self) -> Result<bool, StoreError> {
        let won = self.won();
        if let Some(open) = &won.alone {
            return Ok(open.load(Ordering::Acquire));
        }
        Ok(won.engine.store().renew(won.lease).await? == Ownership::Held)
    }

    #[expect(clippy::expect_used, reason = "the slot is filled before the handler is called")]
    fn won(&self) -> &Won {
        self.0.0.won.get().expect("`Attempt` is used inside the guarded handler, after the claim was won")
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Attempt");
        if let Some(won) = self.0.0.won.get() {
            debug.field("key", &won.lease.key).field("number", &won.attempt).field("fence", &won.fence);
        }
        debug.finish()
    }
}

impl fmt::Debug for Won {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Won").field("fence", &self.fence).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
