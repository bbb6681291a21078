//! What is past its time, and time itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use idem_runtime::{
    FakeClock, SqliteStore, Store,
    store::{Begun, Claim, Claimed, Complete, Outcome, Ownership, Release, Renew, Transactions},
};
use tests::claims::*;

use crate::Place;

async fn count(store: &SqliteStore, of: &'static str) -> i64 {
    sqlx::query_scalar(of).fetch_one(store.pool()).await.unwrap()
}

const RECORDS: &str = "SELECT count(*) FROM idem_records";
const ANSWERS: &str = "SELECT count(*) FROM idem_records WHERE answer IS NOT NULL";

/// Claims and completes `keys`, to be remembered for twice `ttl`.
async fn fill(store: &SqliteStore, keys: std::ops::Range<u32>, ttl: Duration) {
    let claims: Vec<Claim> = keys.clone().map(|at| claim(at, 1)).collect();
    for claimed in store.claim_many(&claims).await {
        assert!(matches!(claimed, Ok(Claimed::Won { .. })), "{claimed:?}");
    }
    let complete = async |at| {
        let complete = Complete::new(key(at), token(1), Outcome::Answer(answer("an answer")), ttl).remember(2 * ttl);
        store.complete(&complete).await
    };
    for held in join_all(keys.map(complete)).await {
        assert_eq!(held.unwrap(), Ownership::Held);
    }
}

#[tokio::test]
async fn claims_drop_what_is_past_its_time_and_nothing_else() {
    let place = Place::new();
    let store = place.open().await;
    let hour = Duration::from_secs(3600);
    fill(&store, 0..300, hour).await;
    // These stay: one in flight with a lease of its own, one abandoned that is kept, one unknown, one of a newer format.
    let kept = 1000..1004;
    win(&store, Claim::new(key(1000), token(1), fingerprint(1), 100 * hour)).await;
    win(&store, claim(1001, 1).retention(None)).await;
    win(&store, claim(1002, 1)).await;
    let unknown = Complete::new(key(1002), token(1), Outcome::Unknown, hour);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    fill(&store, 1003..1004, hour).await;
    let newer = sqlx::query("UPDATE idem_records SET format = 2 WHERE key = ?1").bind(key(1003).as_bytes().to_vec());
    newer.execute(store.pool()).await.unwrap();
    assert_eq!((count(&store, RECORDS).await, count(&store, ANSWERS).await), (304, 301));

    // First the answers, which are not kept as long as their records.
    place.clock.advance(hour + LEASE);
    fill(&store, 2000..2200, 100 * hour).await;
    let answers = count(&store, ANSWERS).await;
    assert!(answers < 301 + 200, "{answers}: some answers were dropped with 400 steps");
    assert_eq!(store.claim(claim(0, 2)).await.unwrap(), Claimed::Completed { answer: None });

    place.clock.advance(hour);
    for round in 0..4 {
        fill(&store, 3000 + 100 * round..3100 + 100 * round, 100 * hour).await;
    }
    assert_eq!(count(&store, RECORDS).await, 4 + 200 + 400, "all of 300 are gone with 800 steps");
    for at in kept {
        assert!(!matches!(store.claim(claim(at, 2).retention(None)).await.unwrap(), Claimed::Won { attempt: 1, .. }));
    }
}

/// As a worker does that fetches many events at once.
#[tokio::test]
async fn large_batches_drop_as_much_as_they_add() {
    let place = Place::new();
    let store = place.open().await;
    let (batch, hour) = (1024, Duration::from_secs(3600));
    for round in 0..10 {
        fill(&store, batch * round..batch * (round + 1), hour).await;
        place.clock.advance(2 * hour);
    }
    assert_eq!(count(&store, RECORDS).await, i64::from(batch), "those before the last were past their time");
}

/// The only writer of a service whose handlers are all transactions.
#[tokio::test]
async fn transactions_drop_what_is_past_its_time_too() {
    let place = Place::new();
    let store = place.open().await;
    let hour = Duration::from_secs(3600);
    let transact = async |keys: std::ops::Range<u32>, ttl| {
        for at in keys {
            let mut transaction = store.begin().await.unwrap();
            assert!(matches!(store.claim_in(&mut transaction, claim(at, 1)).await.unwrap(), Claimed::Won { .. }));
            let complete = Complete::new(key(at), token(1), Outcome::Answer(answer("an answer")), ttl);
            assert_eq!(store.complete_in(&mut transaction, &complete).await.unwrap(), Ownership::Held);
            store.commit(transaction).await.unwrap();
        }
    };
    transact(0..100, hour).await;
    place.clock.advance(hour);
    // Each of them leaves one record. Nobody waits for a drop, so the last may be under way.
    let (more, deadline) = (100..1100, Instant::now() + Duration::from_secs(60));
    transact(more.clone(), 100 * hour).await;
    while count(&store, RECORDS).await > more.len() as i64 {
        assert!(Instant::now() < deadline, "{} records", count(&store, RECORDS).await);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_given_back_attempt_is_remembered_for_its_time() {
    let place = Place::new();
    let store = place.open().await;
    let (first, _) = win(&store, claim(1, 1)).await;
    let release = Release::new(key(1), token(1)).remember(DAY);
    assert_eq!(store.release(release).await.unwrap(), Ownership::Held);
    assert_eq!(store.release(release).await.unwrap(), Ownership::Lost);
    let (second, attempt) = win(&store, claim(1, 1).abandoned(idem_runtime::store::Abandoned::MarkUnknown)).await;
    assert!(second > first && attempt == 2);
    assert_eq!(store.release(release).await.unwrap(), Ownership::Held);
    place.clock.advance(DAY);
    assert_eq!(win(&store, claim(1, 2)).await.1, 1);
}

/// Nearly every step is taken without reading what others wrote. Where that would count it is seen all the same.
#[tokio::test]
async fn the_time_of_another_process_counts_also_where_it_was_not_read() {
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let behind = place.open().await;
    win(&behind, Claim::new(key(1), token(1), fingerprint(1), 100 * hour)).await;
    win(&behind, Claim::new(key(2), token(1), fingerprint(1), 100 * hour)).await;
    let later = FakeClock::new();
    later.advance(2 * hour);
    let ahead = SqliteStore::builder().clock(later).open(place.file()).await.unwrap();
    let (fence, _) = win(&ahead, claim(3, 1)).await;

    // None of these looks before it writes, and none has seen what the others did.
    let complete = Complete::new(key(1), token(1), Outcome::Answer(answer("kept for an hour")), hour);
    assert_eq!(behind.complete(&complete).await.unwrap(), Ownership::Held);
    let renew = Renew::of(&Claim::new(key(2), token(1), fingerprint(1), hour));
    assert_eq!(place.open().await.renew(renew).await.unwrap(), Ownership::Held);
    for at in [1, 2] {
        let claimed = ahead.claim(claim(at, 2)).await.unwrap();
        assert!(!matches!(claimed, Claimed::Won { .. }), "{at}: {claimed:?}");
    }
    let next = place.open().await;
    let Begun::Won { transaction, fence: grown, .. } = next.begin_and_claim(claim(4, 1)).await.unwrap() else {
        panic!()
    };
    next.commit(transaction).await.unwrap();
    assert!(grown > fence);
    assert!(matches!(ahead.claim(claim(4, 2)).await.unwrap(), Claimed::Busy { .. }));
}

/// The wall clock was set back, and the service started again: time goes on from where it was.
#[tokio::test]
async fn a_clock_that_was_set_back_changes_nothing() {
    let mut place = Place::new();
    place.clock.advance(Duration::from_secs(3600));
    let before = place.open().await;
    let (fence, _) = win(&before, claim(1, 1)).await;
    win(&before, claim(2, 1)).await;
    assert_eq!(before.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Held);

    place.clock = FakeClock::new();
    let after = place.open().await;
    match after.claim(claim(1, 2)).await.unwrap() {
        Claimed::Busy { retry_after } => assert!(retry_after <= LEASE, "{retry_after:?}"),
        other => panic!("{other:?}"),
    }
    assert!(win(&after, claim(2, 2)).await.0 > fence);
    place.clock.advance(LEASE);
    assert_eq!(win(&after, claim(1, 2)).await.1, 2, "its lease is over when it would have been");
}
