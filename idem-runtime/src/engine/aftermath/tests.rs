use std::sync::atomic::AtomicU8;

use async_trait::async_trait;
use bytes::BufMut;
use tokio::{runtime::Runtime, time::Instant};

use super::*;
use crate::{
    MemoryStore, Policy,
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

/// A store each of whose steps takes two milliseconds, but for the completions that are in trouble.
#[derive(Debug)]
struct Troubled {
    inner: MemoryStore,
    trouble: AtomicU8,
}

/// Completions of odd keys have no answer.
const HALF_AWAY: u8 = 1;
/// Completions with an answer have none.
const ANSWERS_STAY_OUT: u8 = 2;
/// No completion comes to an end.
const STANDS_STILL: u8 = 3;
/// Releases have no answer.
const RELEASES_AWAY: u8 = 4;

impl Troubled {
    fn with(trouble: u8) -> Arc<Self> {
        Arc::new(Self { inner: MemoryStore::new(), trouble: AtomicU8::new(trouble) })
    }

    /// Runs an operation whose completion is then offered.
    async fn ran(&self, aftermath: &Aftermath, number: u16, bytes: usize) -> Operation {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        let operation = Operation { key: StorageKey::from_bytes(key), ..operation(1) };
        let claim = operation.claim();
        assert!(matches!(self.inner.claim(claim).await.unwrap(), Claimed::Won { .. }));
        let answer = Answer::seal(Kind::Value, bytes, |buffer| buffer.put_bytes(b'x', bytes));
        aftermath.complete(claim, operation.complete(claim.token, Outcome::Answer(answer)), None);
        operation
    }

    async fn found(&self, operation: &Operation) -> Claimed {
        self.inner.claim(operation.claim()).await.unwrap()
    }
}

async fn takes_its_time() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[async_trait]
impl Store for Troubled {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        takes_its_time().await;
        self.inner.claim(claim).await
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        self.inner.claim_many(claims).await
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        takes_its_time().await;
        self.inner.renew(renew).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        let in_trouble = match self.trouble.load(Ordering::SeqCst) {
            HALF_AWAY => complete.key.as_bytes()[1] % 2 == 1,
            ANSWERS_STAY_OUT => matches!(complete.outcome, Outcome::Answer(_)),
            STANDS_STILL => std::future::pending().await,
            _ => false,
        };
        if in_trouble {
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Err(StoreError::new(StoreErrorKind::Unavailable, "no answer in time"));
        }
        takes_its_time().await;
        self.inner.complete(complete).await
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        takes_its_time().await;
        if self.trouble.load(Ordering::SeqCst) == RELEASES_AWAY {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "no answer"));
        }
        self.inner.release(release).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        self.inner.resolve(resolve).await
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.inner.parked(parked).await
    }
}

/// As of a Redis Cluster of which one master is away.
#[tokio::test(start_paused = true)]
async fn a_part_of_the_store_that_is_away_holds_up_no_outcome_of_the_rest() {
    let store = Troubled::with(HALF_AWAY);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    for number in 0..2_000 {
        store.ran(&aftermath, number, 10).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(aftermath.waiting(), 1_000);
    store.trouble.store(0, Ordering::SeqCst);
    aftermath.empty().await;
}

/// During an outage each request that is refused leaves one.
#[tokio::test(start_paused = true)]
async fn claims_to_be_given_back_hold_up_no_outcome() {
    let store = Troubled::with(0);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    for number in 0..20_000_u16 {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        let operation = Operation { key: StorageKey::from_bytes(key), ..operation(1) };
        aftermath.give_back(operation.claim(), Duration::from_secs(60));
    }
    let began = Instant::now();
    let operation = store.ran(&aftermath, 1, 10).await;
    while aftermath.find::<()>(&operation).is_some() {
        takes_its_time().await;
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    aftermath.empty().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// As where a run that failed is followed by one without a guard, while the store is away: whoever has the key has ended here.
#[tokio::test(start_paused = true)]
async fn an_outcome_is_not_lost_to_a_claim_that_is_to_be_given_back() {
    let store = Troubled::with(RELEASES_AWAY);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    let failed = operation(1).claim();
    assert!(matches!(store.inner.claim(failed).await.unwrap(), Claimed::Won { .. }));
    aftermath.withdraw(Release::new(failed.key, failed.token));
    let unguarded = operation(1).claim();
    let answer = Outcome::Answer(Answer::seal(Kind::Value, 1, |buffer| buffer.put_u8(b'x')));
    aftermath.complete(unguarded, operation(1).complete(unguarded.token, answer), None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(aftermath.waiting(), 2);
    store.trouble.store(0, Ordering::SeqCst);
    aftermath.empty().await;
    assert!(matches!(store.found(&operation(1)).await, Claimed::Completed { answer: Some(_) }));
}

/// As where a commit stands still on the server for longer than whoever asked for it waits, and the give-back overtakes it.
#[tokio::test(start_paused = true)]
async fn a_claim_that_lands_behind_its_give_back_is_given_back_within_its_lease() {
    let store = Troubled::with(0);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    let late = operation(1).claim();
    aftermath.give_back(late, Duration::from_secs(60));
    aftermath.empty().await;
    assert!(matches!(store.inner.claim(late).await.unwrap(), Claimed::Won { .. }));
    tokio::time::sleep(late.lease / 2 + Duration::from_secs(1)).await;
    assert!(matches!(store.found(&operation(1)).await, Claimed::Won { attempt: 1, .. }));
}

/// A store that is away leaves one for each request, and none of them may outlive the engine or hold up its end.
#[tokio::test(start_paused = true)]
async fn claims_looked_for_again_are_bounded_and_hold_nothing_up() {
    let bounds = Bounds { steps: 8, ..Bounds::default() };
    let store = Troubled::with(0);
    let aftermath = Aftermath::with_bounds(store.clone(), Counters::default(), bounds);
    for number in 0..6 {
        aftermath.give_back(operation(number).claim(), Duration::ZERO);
        aftermath.empty().await;
    }
    assert_eq!((aftermath.waiting(), aftermath.0.looked_for.load(Ordering::SeqCst)), (0, 4));
    let (shared, lease) = (Arc::downgrade(&aftermath.0), operation(1).claim().lease);
    drop(aftermath);
    tokio::task::yield_now().await;
    assert!(shared.upgrade().is_none());
    tokio::time::sleep(lease).await;
}

/// New ones, each of which takes the store's time-out, are not all that is offered.
#[tokio::test(start_paused = true)]
async fn new_outcomes_that_the_store_fails_hold_up_no_claim_and_no_earlier_outcome() {
    let store = Troubled::with(HALF_AWAY);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    for number in 0..1_000 {
        store.ran(&aftermath, 2 * number + 1, 10).await;
    }
    let waiting = aftermath.waiting();
    for number in 0..64_u8 {
        let operation = Operation { key: StorageKey::from_bytes([number; 32]), ..operation(1) };
        aftermath.give_back(operation.claim(), Duration::ZERO);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(aftermath.waiting(), waiting);
    store.trouble.store(0, Ordering::SeqCst);
    aftermath.empty().await;
}

/// It would keep its key in flight, and the process from its end.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_through_in_time_is_at_last_recorded_without() {
    let store = Troubled::with(ANSWERS_STAY_OUT);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    let heavy = store.ran(&aftermath, 1, HEAVY).await;
    tokio::time::timeout(Duration::from_secs(60), aftermath.empty()).await.unwrap();
    assert_eq!(store.found(&heavy).await, Claimed::Completed { answer: None });

    // What is small does not take long: something else is wrong, and passes.
    let light = store.ran(&aftermath, 2, 1_000).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(aftermath.waiting(), 1);
    store.trouble.store(0, Ordering::SeqCst);
    aftermath.empty().await;
    assert!(matches!(store.found(&light).await, Claimed::Completed { answer: Some(_) }));
}

#[test]
fn what_is_on_its_way_when_a_runtime_ends_is_offered_by_the_next() {
    let runtime = || Runtime::new().unwrap();
    let store = Troubled::with(STANDS_STILL);
    let aftermath = Aftermath::new(store.clone(), Counters::default());
    let ended = runtime();
    let ran = ended.block_on(async {
        let mut ran = Vec::new();
        for number in 0..100 {
            ran.push(store.ran(&aftermath, number, 10).await);
        }
        ran
    });
    drop(ended);
    assert_eq!(aftermath.waiting(), 100);
    store.trouble.store(0, Ordering::SeqCst);
    runtime().block_on(async {
        aftermath.resume();
        aftermath.empty().await;
        for operation in ran {
            assert!(matches!(store.found(&operation).await, Claimed::Completed { answer: Some(_) }));
        }
    });
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
