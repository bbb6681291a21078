use async_trait::async_trait;
use bytes::BufMut;

use super::*;
use crate::{
    Policy,
    engine::Terms,
    fingerprint::Fingerprint,
    record::{Answer, Kind},
    store::{Parked, ParkedRecord, Renew, Resolve, Resolved, Token},
};

/// A store that is not there.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Store for Gone {
    async fn claim(&self, _: Claim) -> Result<Claimed, StoreError> {
        Err(gone())
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        claims.iter().map(|_| Err(gone())).collect()
    }

    async fn renew(&self, _: Renew) -> Result<Ownership, StoreError> {
        Err(gone())
    }

    async fn complete(&self, _: &Complete) -> Result<Ownership, StoreError> {
        Err(gone())
    }

    async fn release(&self, _: Release) -> Result<Ownership, StoreError> {
        Err(gone())
    }

    async fn resolve(&self, _: &Resolve) -> Result<Resolved, StoreError> {
        Err(gone())
    }

    async fn parked(&self, _: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        Err(gone())
    }
}

fn gone() -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "gone")
}

fn aftermath(bounds: Bounds) -> (Aftermath, Counters) {
    let counters = Counters::default();
    (Aftermath::with_bounds(Arc::new(Gone), counters.clone(), bounds), counters)
}

fn operation(number: u8) -> Operation {
    Operation {
        key: StorageKey::from_bytes([number; 32]),
        fingerprint: Fingerprint::from_bytes([number; 32]),
        terms: Terms::of(&Policy::new("test")),
    }
}

/// It ran, and its answer has so many bytes.
fn ran(aftermath: &Aftermath, operation: &Operation, bytes: usize) {
    let answer = Answer::seal(Kind::Value, bytes, |buffer| buffer.put_bytes(b'x', bytes));
    let claim = operation.claim();
    aftermath.complete(claim, operation.complete(Token::from_bytes([0; 16]), Outcome::Answer(answer)), None);
}

/// It came to its last attempt, with a note of so many bytes.
fn parked(aftermath: &Aftermath, operation: &Operation, bytes: usize) {
    let note = Answer::seal(Kind::Value, bytes, |buffer| buffer.put_bytes(b'x', bytes));
    let complete = operation.complete(Token::from_bytes([1; 16]), Outcome::Parked(note));
    aftermath.complete(operation.claim(), complete, None);
}

#[tokio::test]
async fn an_answer_beyond_the_bytes_that_may_wait_is_remembered_without() {
    let (aftermath, counters) = aftermath(Bounds { steps: 10, bytes: 300 });
    for number in 0..4 {
        ran(&aftermath, &operation(number), 100);
    }
    let found = |number| aftermath.find::<()>(&operation(number));
    assert!(matches!(found(0), Some(Ok(Ran::Replay(_)))));
    assert!(matches!(found(1), Some(Ok(Ran::Replay(_)))));
    assert!(matches!(found(2), Some(Err(Refusal::NotKept))));
    assert!(matches!(found(3), Some(Err(Refusal::NotKept))));
    assert!(found(4).is_none());
    assert_eq!(aftermath.waiting(), 4);
    assert_eq!(counters.snapshot(0, 0).dropped_outcomes, 0);
}

/// Remembered as one that ran, its event would be acknowledged, and nobody would find it among those that are parked.
#[tokio::test]
async fn what_is_parked_beyond_the_bytes_that_may_wait_never_passes_for_done() {
    let (aftermath, _) = aftermath(Bounds { steps: 10, bytes: 100 });
    parked(&aftermath, &operation(0), 200);
    assert!(matches!(aftermath.find::<()>(&operation(0)), Some(Err(Refusal::Unknown))));

    // A second run that nobody could be asked about.
    ran(&aftermath, &operation(1), 1);
    parked(&aftermath, &operation(1), 1);
    let backlog = aftermath.backlog();
    let others: Vec<_> = backlog.completions[&operation(1).key].others.iter().map(|other| &other.outcome).collect();
    assert!(matches!(others[..], [Outcome::Unknown]), "{others:?}");
}

#[tokio::test]
async fn an_outcome_from_outside_of_every_runtime_waits_for_the_next_one() {
    let (aftermath, _) = aftermath(Bounds::default());
    std::thread::scope(|scope| scope.spawn(|| ran(&aftermath, &operation(1), 1)).join()).unwrap();
    assert_eq!((aftermath.waiting(), Handle::current().metrics().num_alive_tasks()), (1, 0));
    ran(&aftermath, &operation(2), 1);
    assert_eq!((aftermath.waiting(), Handle::current().metrics().num_alive_tasks()), (2, 1), "one that offers both");
}

#[tokio::test]
async fn an_outcome_too_many_is_dropped_and_counted() {
    let (aftermath, counters) = aftermath(Bounds { steps: 2, bytes: 1000 });
    for number in 0..2 {
        ran(&aftermath, &operation(number), 1);
    }
    ran(&aftermath, &operation(2), 1);
    assert_eq!(aftermath.waiting(), 2);
    assert!(aftermath.find::<()>(&operation(2)).is_none());
    assert_eq!(counters.snapshot(0, 0).dropped_outcomes, 1);
}

/// A store that is away makes many claims that are to be given back, and nobody runs an operation again for the lack of one.
#[tokio::test]
async fn claims_to_be_given_back_leave_room_for_outcomes() {
    let (aftermath, counters) = aftermath(Bounds { steps: 4, bytes: 1000 });
    for number in 0..4 {
        aftermath.give_back(operation(number).claim(), Duration::from_secs(60));
    }
    assert_eq!((aftermath.waiting(), counters.snapshot(0, 0).dropped_outcomes), (2, 2));
    for number in 4..6 {
        ran(&aftermath, &operation(number), 1);
    }
    assert_eq!((aftermath.waiting(), counters.snapshot(0, 0).dropped_outcomes), (4, 2));
}

/// The same key with another request is no replay.
#[tokio::test]
async fn what_is_remembered_has_its_fingerprint() {
    let (aftermath, _) = aftermath(Bounds::default());
    ran(&aftermath, &operation(1), 1);
    let other = Operation { fingerprint: Fingerprint::from_bytes([9; 32]), ..operation(1) };
    assert!(matches!(aftermath.find::<()>(&other), Some(Err(Refusal::Mismatch))));
}
