use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    clock::FakeClock,
    fingerprint::Fingerprint,
    record::Answer,
    store::{Abandoned, Fence, Token},
};

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);
const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 32]);

#[tokio::test]
async fn many_expired_keys_take_no_more_room_than_those_alive() {
    let (store, clock) = store(2000, 1 << 20);
    for round in 0..50 {
        for at in 0..1000 {
            ran(&store, round * 1000 + at, "an answer").await;
        }
        assert!(store.len() <= 2000);
        clock.advance(TTL);
    }
    store.0.check();
    assert!(slots(&store) < 4000, "the slots of dead records are used again: {}", slots(&store));
}

#[tokio::test]
async fn a_full_store_refuses_and_keeps_what_is_alive() {
    let (store, clock) = store(3, 1 << 20);
    for key in 0..3 {
        ran(&store, key, "an answer").await;
    }
    assert_eq!(full(store.claim(claim(3)).await), StoreErrorKind::Full);
    for key in 0..3 {
        assert!(matches!(store.claim(claim(key)).await.unwrap(), Claimed::Completed { answer: Some(_) }));
    }
    clock.advance(TTL);
    assert!(matches!(store.claim(claim(3)).await.unwrap(), Claimed::Won { .. }));
    store.0.check();
}

#[tokio::test]
async fn what_is_in_flight_or_unknown_is_never_dropped_for_room() {
    let (store, clock) = store(2, 1 << 20);
    won(&store, claim(0).retention(None)).await;
    won(&store, claim(1)).await;
    let unknown = Complete::new(key(1), token(1), Outcome::Unknown, TTL);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    clock.advance(Duration::from_secs(365 * 24 * 60 * 60));
    assert_eq!(full(store.claim(claim(2)).await), StoreErrorKind::Full);
    for key in 0..2 {
        assert!(matches!(store.claim(other(key)).await.unwrap(), Claimed::Unknown { attempt: 1, .. }));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_and_its_tombstone_fits() {
    let (store, _clock) = store(10, 2 * RECORD_BYTES + 100);
    ran(&store, 0, &"x".repeat(100)).await;
    won(&store, claim(1)).await;
    assert_eq!(full(store.complete(&done(1, "y")).await), StoreErrorKind::Full);
    assert!(matches!(store.claim(other(1)).await.unwrap(), Claimed::Busy { .. }), "a refused step changes nothing");
    let tombstone = Complete::new(key(1), token(1), Outcome::Tombstone, TTL);
    assert_eq!(store.complete(&tombstone).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(other(1)).await.unwrap(), Claimed::Completed { answer: None });
    assert_eq!(store.bytes(), 2 * RECORD_BYTES + 100);
}

#[tokio::test]
async fn an_answer_past_its_ttl_gives_its_bytes_back_before_its_record_goes() {
    let (store, clock) = store(10, 1 << 20);
    won(&store, claim(0)).await;
    let long = done(0, &"x".repeat(1000)).remember(TTL * 10);
    assert_eq!(store.complete(&long).await.unwrap(), Ownership::Held);
    clock.advance(TTL);
    store.0.make_room(0, usize::MAX);
    assert_eq!((store.len(), store.bytes()), (1, RECORD_BYTES));
    assert_eq!(store.claim(other(0)).await.unwrap(), Claimed::Completed { answer: None });
    clock.advance(TTL * 9);
    store.0.make_room(0, usize::MAX);
    assert_eq!((store.len(), store.bytes()), (0, 0));
    store.0.check();
}

#[tokio::test]
async fn a_large_answer_gets_the_room_of_all_the_small_records_that_are_past_their_time() {
    const RECORDS: u32 = 4 * DROPS_WHEN_FULL as u32;
    let (store, clock) = store(usize::MAX, RECORDS as usize * RECORD_BYTES);
    won(&store, claim(0)).await;
    for at in 1..RECORDS {
        won(&store, claim(at)).await;
        let tombstone = Complete::new(key(at), token(at), Outcome::Tombstone, TTL);
        assert_eq!(store.complete(&tombstone).await.unwrap(), Ownership::Held);
    }
    clock.advance(TTL);
    let large = "x".repeat(3 * DROPS_WHEN_FULL * RECORD_BYTES);
    assert_eq!(store.complete(&done(0, &large)).await.unwrap(), Ownership::Held);
    assert!(store.len() > 1, "and no more than it needs");
    store.0.check();
}

#[tokio::test]
async fn released_claims_leave_nothing_behind() {
    let (store, _clock) = store(10, 1 << 20);
    for at in 0..10_000 {
        won(&store, claim(at)).await;
        assert_eq!(store.release(Release::new(key(at), token(at))).await.unwrap(), Ownership::Held);
    }
    assert_eq!((store.len(), store.bytes(), store.0.check()), (0, 0, 0));
    assert!(slots(&store) <= SHARDS, "one slot is enough for each shard");
}

#[tokio::test]
async fn fences_grow_within_one_microsecond() {
    let (store, _clock) = store(10, 1 << 20);
    let mut last = Fence::new(0);
    for _ in 0..1000 {
        let fence = won(&store, claim(0)).await;
        assert!(fence > last);
        last = fence;
        assert_eq!(store.release(Release::new(key(0), token(0))).await.unwrap(), Ownership::Held);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_fill_it_together_leave_it_whole() {
    let (store, clock) = store(500, 200_000);
    let workers = (0..8u32).map(|worker| {
        let (store, clock) = (store.clone(), clock.clone());
        tokio::spawn(async move {
            for at in 0..2000 {
                let at = worker * 2000 + at;
                if store.claim(claim(at)).await.is_ok() {
                    match at % 4 {
                        0 => drop(store.release(Release::new(key(at), token(at))).await),
                        1 => drop(store.claim(other(at)).await),
                        _ => drop(store.complete(&done(at, "an answer")).await),
                    }
                }
                clock.advance(TTL / 400);
                assert!(store.len() <= 500 && store.bytes() <= 200_000);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert_eq!(store.0.check(), store.len());
    clock.advance(Duration::from_secs(48 * 60 * 60));
    store.0.make_room(0, usize::MAX);
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn the_queue_keeps_its_order_under_any_steps() {
    let mut shard = Shard::new(KeyHash::random());
    let room = Room { max_entries: 64, max_bytes: usize::MAX, entries: 0.into(), bytes: 0.into() };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut now = 1;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (pick, at) = ((random >> 33) % 7, (random >> 40) as u32 % 80);
        let time = Duration::from_micros((random >> 20) % 500 + 1);
        let mut claim = Claim::new(key(at), token(at), FINGERPRINT, time).retention(Some(time));
        match pick {
            0 | 1 => drop(shard.claim(&claim, now, &room)),
            2 => drop(shard.claim(&claim.abandoned(Abandoned::MarkUnknown), now, &room)),
            3 => _ = shard.renew(&Renew::of(&claim.retention(None)), now, &room),
            4 => drop(shard.complete(&Complete::new(key(at), token(at), answer("x"), time), now, &room)),
            5 => _ = shard.release(&Release::new(key(at), token(at)), now, &room),
            _ => {
                claim.token = token(at + 1);
                drop(shard.claim(&claim, now, &room));
            }
        }
        now += (random >> 50) % 20;
        assert_eq!(shard.check(), room.entries.load(Ordering::Relaxed));
    }
}

#[test]
fn debug_shows_neither_keys_nor_answers() {
    let (store, _clock) = store(10, 1 << 20);
    assert_eq!(format!("{store:?}"), "MemoryStore { entries: 0, max_entries: 10, bytes: 0, max_bytes: 1048576 }");
}

fn store(entries: usize, bytes: usize) -> (MemoryStore, FakeClock) {
    let clock = FakeClock::new();
    (MemoryStore::builder().max_entries(entries).max_bytes(bytes).clock(clock.clone()).build(), clock)
}

fn key(at: u32) -> StorageKey {
    let mut bytes = [0; 32];
    for (word, spread) in bytes.chunks_exact_mut(4).zip(1u32..) {
        word.copy_from_slice(&at.wrapping_mul(0x9e37_79b1).rotate_left(spread * 3).to_be_bytes());
    }
    StorageKey::from_bytes(bytes)
}

fn token(at: u32) -> Token {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&at.to_be_bytes());
    Token::from_bytes(bytes)
}

fn claim(at: u32) -> Claim {
    Claim::new(key(at), token(at), FINGERPRINT, LEASE)
}

/// As `claim`, by somebody else.
fn other(at: u32) -> Claim {
    Claim::new(key(at), Token::from_bytes([0xff; 16]), FINGERPRINT, LEASE)
}

fn answer(text: &str) -> Outcome {
    Outcome::Answer(Answer::from_bytes(Bytes::copy_from_slice(text.as_bytes())))
}

fn done(at: u32, text: &str) -> Complete {
    Complete::new(key(at), token(at), answer(text), TTL)
}

async fn won(store: &MemoryStore, claim: Claim) -> Fence {
    match store.claim(claim).await.unwrap() {
        Claimed::Won { fence, .. } => fence,
        other => panic!("not won: {other:?}"),
    }
}

async fn ran(store: &MemoryStore, at: u32, text: &str) {
    won(store, claim(at)).await;
    assert_eq!(store.complete(&done(at, text)).await.unwrap(), Ownership::Held);
}

fn full<T: fmt::Debug>(result: Result<T, StoreError>) -> StoreErrorKind {
    result.unwrap_err().kind()
}

fn slots(store: &MemoryStore) -> usize {
    store.0.shards.iter().map(|shard| shard.0.lock().unwrap().slots()).sum()
}

impl Shards {
    /// Panics where a shard is not whole; how many records there are.
    fn check(&self) -> usize {
        (0..SHARDS).map(|at| self.lock(at).check()).sum()
    }
}
