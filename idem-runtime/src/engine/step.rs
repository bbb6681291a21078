//! One step at a store: taken again while it is not answered, and what its answer means.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::{Operation, Ran, Recording, Refusal};
use crate::{
    fingerprint::Fingerprint,
    key::StorageKey,
    store::{Claim, Claimed, Complete, Outcome, Release, StoreError, StoreErrorKind, Token},
};

/// How long an unanswered step is asked again before the caller is told, beyond the store's own time-out.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a claim that was not won says.
pub(super) fn known<T>(key: &StorageKey, claimed: Claimed) -> Result<Ran<T>, Refusal> {
    match claimed {
        Claimed::Completed { answer: Some(answer) } => Ok(Ran::Replay(answer)),
        Claimed::Completed { answer: None } => Err(Refusal::NotKept),
        Claimed::Busy { retry_after } => Err(Refusal::InFlight { retry_after }),
        Claimed::Mismatch => Err(Refusal::Mismatch),
        Claimed::Unknown { .. } => Err(Refusal::Unknown),
        Claimed::Parked { note, .. } => Ok(Ran::Parked(note)),
        // Whoever won does not ask.
        Claimed::Won { .. } | Claimed::Unreadable => {
            tracing::error!(%key, "the record cannot be read by this version");
            Err(Refusal::Unreadable)
        }
    }
}

/// The claim of a run without a key: an operation of its own that nobody can repeat. No store sees it.
pub(super) fn unclaimed() -> Claim {
    let token = Token::fresh();
    let mut key = [0; 32];
    key[..16].copy_from_slice(token.as_bytes());
    Claim::new(StorageKey::from_bytes(key), token, Fingerprint::from_bytes([0; 32]), Duration::ZERO)
}

/// What the store is told of an effect that ended.
pub(super) enum Closing {
    Complete(Complete),
    /// The key is free again.
    Release(Release),
}

impl Operation {
    /// What the owner with this token tells the store.
    pub(super) fn close(&self, token: Token, recording: Recording) -> Closing {
        let release = Release::new(self.key, token);
        let outcome = match recording {
            Recording::Answer(answer) => Outcome::Answer(answer),
            Recording::Tombstone => Outcome::Tombstone,
            Recording::Parked { note, .. } => Outcome::Parked(note),
            Recording::Unknown => Outcome::Unknown,
            Recording::Broken if self.terms.refuses_abandoned() => Outcome::Unknown,
            Recording::Failed => return Closing::Release(release.remember(self.terms.remember)),
            Recording::Release | Recording::Broken => return Closing::Release(release),
        };
        Closing::Complete(self.complete(token, outcome))
    }
}

impl Closing {
    pub(super) const fn parks(&self) -> bool {
        matches!(self, Self::Complete(Complete { outcome: Outcome::Parked(_), .. }))
    }
}

/// Takes a step, and takes it again for up to [`ASK_AGAIN`] while the store gives no answer.
///
/// Sets `taken_perhaps` when a step without an answer may have been taken all the same.
pub(super) async fn ask_again<T, F, Fut>(step: F, taken_perhaps: &mut bool) -> Result<T, StoreError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    match step().await {
        Ok(answer) => Ok(answer),
        // In a box of its own: hardly any operation gets here, and each would carry the room for it.
        Err(error) => Box::pin(until_answered(step, error, taken_perhaps)).await,
    }
}

pub(super) async fn until_answered<T, F, Fut>(
    step: F,
    mut error: StoreError,
    taken_perhaps: &mut bool,
) -> Result<T, StoreError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + ASK_AGAIN;
    let mut pause = Duration::from_millis(5);
    loop {
        match error.kind() {
            StoreErrorKind::Unavailable => *taken_perhaps = true,
            StoreErrorKind::Unreachable | StoreErrorKind::Conflict => {}
            StoreErrorKind::Full | StoreErrorKind::Misconfigured => return Err(error),
        }
        if tokio::time::timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
            return Err(error);
        }
        match tokio::time::timeout_at(deadline, step()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(next)) => error = next,
            Err(_) => {
                *taken_perhaps = true;
                return Err(error);
            }
        }
        pause *= 3;
    }
}
