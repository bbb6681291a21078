//! What the laws are written in: one key of the store under test, and steps that say what they expected.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::Fixture;
pub(super) use super::limited::store_of;
use crate::{
    fingerprint::Fingerprint,
    key::StorageKey,
    record::Answer,
    store::{
        Claim, Claimed, Complete, Fence, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release, Renew, Resolve,
        Resolved, Store, StoreError, StoreErrorKind, Token, Verdict,
    },
};

/// Long enough that no machine is too slow for it.
pub(super) const LONG: Duration = Duration::from_secs(60 * 60);

/// For what must be over after [`Case::pass_brief`]. Never alive for sure: only the wait is.
pub(super) const BRIEF: Duration = Duration::from_millis(200);

pub(super) const PRINT: Fingerprint = Fingerprint::from_bytes([0x11; 32]);
pub(super) const OTHER_PRINT: Fingerprint = Fingerprint::from_bytes([0x22; 32]);

/// One key, unused so far.
pub(super) struct Case<'a> {
    fixture: &'a dyn Fixture,
    pub(super) store: Arc<dyn Store>,
    pub(super) key: StorageKey,
}

/// What a won claim gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Won {
    pub(super) fence: Fence,
    pub(super) attempt: u32,
}

/// Fails the law unless the condition holds.
macro_rules! require {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            $crate::conformance::case::fail(format_args!($($why)+));
        }
    };
}

/// Fails the law unless both are equal.
macro_rules! require_eq {
    ($found:expr, $wanted:expr, $($why:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => if found != wanted {
                $crate::conformance::case::fail(format_args!(
                    "{}: found {found:?} instead of {wanted:?}", format_args!($($why)+)
                ));
            }
        }
    };
}

pub(super) use {require, require_eq};

impl<'a> Case<'a> {
    pub(super) async fn new(fixture: &'a dyn Fixture) -> Self {
        Self::of(fixture, StorageKey::from_bytes(random())).await
    }

    pub(super) async fn of(fixture: &'a dyn Fixture, key: StorageKey) -> Self {
        Self::on(fixture, store_of(fixture).await, key)
    }

    pub(super) fn on(fixture: &'a dyn Fixture, store: Arc<dyn Store>, key: StorageKey) -> Self {
        Self { fixture, store, key }
    }

    /// Another unused key, over the same connection.
    pub(super) fn another(&self) -> Self {
        Self::on(self.fixture, Arc::clone(&self.store), StorageKey::from_bytes(random()))
    }

    /// The same key, as another replica of the service sees it.
    pub(super) async fn elsewhere(&self) -> Self {
        Self::of(self.fixture, self.key).await
    }

    /// Lets what is [`BRIEF`] be over.
    pub(super) async fn pass_brief(&self) {
        self.pass(BRIEF).await;
    }

    /// A little more than asked for: stores that count milliseconds round.
    pub(super) async fn pass(&self, time: Duration) {
        self.fixture.pass(time + Duration::from_millis(50)).await;
    }

    /// A claim with a long lease, long seen when abandoned, that takes over.
    pub(super) fn by(&self, token: Token) -> Claim {
        Claim::new(self.key, token, PRINT, LONG).retention(Some(LONG))
    }

    /// As `by`, with a lease that [`Case::pass_brief`] ends.
    pub(super) fn briefly(&self, token: Token) -> Claim {
        Claim { lease: BRIEF, ..self.by(token) }
    }

    pub(super) async fn claim(&self, claim: Claim) -> Claimed {
        answered("claim", self.store.claim(claim).await)
    }

    /// Claims, as somebody who was not there before, to see how the record stands.
    pub(super) async fn look(&self) -> Claimed {
        self.claim(self.by(token())).await
    }

    pub(super) async fn win(&self, claim: Claim) -> Won {
        let claimed = self.claim(claim).await;
        won(&claimed).unwrap_or_else(|| fail(format_args!("a claim that must be won found {claimed:?}")))
    }

    /// A record in flight past its lease, that was this token's.
    pub(super) async fn abandoned_by(&self, token: Token) -> Won {
        let won = self.win(self.briefly(token)).await;
        self.pass_brief().await;
        won
    }

    /// A record of this token's that is abandoned and kept until it is settled; of a first claim, or of one that was renewed.
    pub(super) async fn kept_by(&self, token: Token, is_renewed: bool) -> Won {
        let claim = self.briefly(token).retention(None);
        let won = self.win(claim).await;
        if is_renewed {
            require_eq!(self.renew(claim).await, Ownership::Held, "a renewal by its owner");
        }
        self.pass_brief().await;
        won
    }

    /// An unknown record, that was this token's.
    pub(super) async fn unknown_by(&self, token: Token) -> Won {
        let won = self.win(self.by(token)).await;
        require_eq!(
            self.complete(token, Outcome::Unknown).await,
            Ownership::Held,
            "the owner says that the outcome is unknown"
        );
        won
    }

    /// A completed record, that was this token's.
    pub(super) async fn completed_by(&self, token: Token, outcome: Outcome) -> Won {
        let won = self.win(self.by(token)).await;
        require_eq!(self.complete(token, outcome).await, Ownership::Held, "the owner completes");
        won
    }

    /// A record in flight without an owner, whose last attempt was this token's.
    pub(super) async fn remembered_by(&self, token: Token) -> Won {
        let won = self.win(self.by(token)).await;
        require_eq!(self.release_remembered(token, LONG).await, Ownership::Held, "the owner releases");
        won
    }

    /// A parked record, that was this token's.
    pub(super) async fn parked_by(&self, token: Token, note: &Answer) -> Won {
        let won = self.win(self.by(token)).await;
        require_eq!(self.complete(token, Outcome::Parked(note.clone())).await, Ownership::Held, "the owner parks");
        won
    }

    /// Completes, to be kept for long.
    pub(super) async fn complete(&self, token: Token, outcome: Outcome) -> Ownership {
        self.complete_as(Complete::new(self.key, token, outcome, LONG)).await
    }

    pub(super) async fn complete_as(&self, complete: Complete) -> Ownership {
        answered("complete", self.store.complete(&complete).await)
    }

    pub(super) async fn renew(&self, claim: Claim) -> Ownership {
        answered("renew", self.store.renew(Renew::of(&claim)).await)
    }

    pub(super) async fn release(&self, token: Token) -> Ownership {
        answered("release", self.store.release(Release::new(self.key, token)).await)
    }

    pub(super) async fn release_remembered(&self, token: Token, remember: Duration) -> Ownership {
        answered("release", self.store.release(Release::new(self.key, token).remember(remember)).await)
    }

    pub(super) async fn resolve(&self, verdict: Verdict) -> Resolved {
        self.resolve_as(Resolve::new(self.key, verdict)).await
    }

    pub(super) async fn resolve_as(&self, resolve: Resolve) -> Resolved {
        answered("resolve", self.store.resolve(&resolve).await)
    }

    /// `None`: the store says that it cannot forget.
    pub(super) async fn forget(&self) -> Option<Forgotten> {
        match self.store.forget(self.key).await {
            Err(error) if error.kind() == StoreErrorKind::Misconfigured => None,
            forgotten => Some(answered("forget", forgotten)),
        }
    }

    /// Requires that somebody else's lease is alive.
    pub(super) async fn require_busy(&self, why: &str) {
        let claimed = self.look().await;
        require!(matches!(claimed, Claimed::Busy { .. }), "{why}: found {claimed:?} instead of busy");
    }

    /// Requires that the record is this answer, or a tombstone.
    pub(super) async fn require_completed(&self, answer: Option<&Answer>, why: &str) {
        require_eq!(self.look().await, Claimed::Completed { answer: answer.cloned() }, "{why}");
    }

    /// Requires that the record is unknown, and was this owner's.
    pub(super) async fn require_unknown(&self, owner: Won, why: &str) {
        let Won { fence, attempt } = owner;
        require_eq!(self.look().await, Claimed::Unknown { fence, attempt }, "{why}");
    }

    /// Requires that the record is parked for this reason, and was this owner's.
    pub(super) async fn require_parked(&self, owner: Won, note: &Answer, why: &str) {
        let Won { fence, attempt } = owner;
        require_eq!(self.look().await, Claimed::Parked { note: note.clone(), fence, attempt }, "{why}");
    }

    /// Requires that the next claim is the attempt after this one, whatever becomes of abandoned records.
    pub(super) async fn require_next_attempt(&self, last: Won, claim: Claim, why: &str) -> Won {
        let claimed = self.claim(claim).await;
        let Some(next) = won(&claimed) else { fail(format_args!("{why}: found {claimed:?} instead of a won claim")) };
        require_eq!(next.attempt, last.attempt + 1, "{why}, and the next claim is the next attempt");
        require_grown(last.fence, next.fence);
        next
    }

    /// Requires that there is no record any more: even another request wins, as the first, with a fence larger than
    /// that of the last owner.
    pub(super) async fn require_absent_after(&self, last: Won, why: &str) -> Won {
        let claimed = self.claim(Claim { fingerprint: OTHER_PRINT, ..self.by(token()) }).await;
        let Some(next) = won(&claimed) else { fail(format_args!("{why}: found {claimed:?} instead of nothing")) };
        require_eq!(next.attempt, 1, "{why}, and an absent key starts at attempt 1");
        require_grown(last.fence, next.fence);
        next
    }
}

pub(super) async fn page(store: &dyn Store, parked: Parked) -> Vec<ParkedRecord> {
    answered("parked", store.parked(parked).await)
}

pub(super) fn won(claimed: &Claimed) -> Option<Won> {
    match *claimed {
        Claimed::Won { fence, attempt } => Some(Won { fence, attempt }),
        _ => None,
    }
}

pub(super) fn require_grown(last: Fence, next: Fence) {
    require!(next > last, "a fence must be larger than that of every earlier owner: {next} follows {last}");
}

/// Somebody new.
pub(super) fn token() -> Token {
    Token::from_bytes(random())
}

pub(super) fn answer(bytes: impl AsRef<[u8]>) -> Answer {
    Answer::from_bytes(Bytes::copy_from_slice(bytes.as_ref()))
}

pub(super) fn answer_of(bytes: impl AsRef<[u8]>) -> (Answer, Outcome) {
    let answer = answer(bytes);
    (answer.clone(), Outcome::Answer(answer))
}

/// Bytes that no other law, in whichever process, has.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for (bytes, at) in bytes.chunks_mut(8).zip(0u64..) {
        bytes.copy_from_slice(&RandomState::new().hash_one(at).to_le_bytes()[..bytes.len()]);
    }
    bytes
}

#[track_caller]
pub(super) fn answered<T>(step: &str, result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: `{step}` answered {error:?}"))
}

#[track_caller]
pub(super) fn fail(why: std::fmt::Arguments<'_>) -> ! {
    panic!("the store breaks this law: {why}")
}
