//! Steps that wait at once are written at once.

use bytes::Bytes;
use futures_util::future::join_all;
use idem_runtime::{
    Answer, SqliteStore, Store,
    store::{Claimed, Complete, Outcome, Ownership, StoreErrorKind, Transactions, sqlite::Synchronous},
};
use tests::claims::*;

use crate::Place;

/// How many transactions the write-ahead log holds: its frames that say how large the database is after them.
fn commits(place: &Place) -> usize {
    let log = std::fs::read(format!("{}-wal", place.file().display())).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

/// On a runtime of one thread all are queued before the writer is polled.
#[tokio::test]
async fn steps_that_wait_together_share_one_commit() {
    let place = Place::new();
    let store = place.open().await;
    win(&store, claim(0, 1)).await;
    let before = commits(&place);
    let claims: Vec<_> = (1..=100).map(|at| claim(at, 1)).collect();
    let claimed = store.claim_many(&claims).await;
    assert!(claimed.iter().all(|claimed| matches!(claimed, Ok(Claimed::Won { attempt: 1, .. }))));
    assert_eq!(commits(&place) - before, 1);

    let held = join_all((1..=100).map(async |at| store.complete(&complete(at, 1, "done")).await)).await;
    assert!(held.into_iter().all(|held| held.unwrap() == Ownership::Held));
    assert_eq!(commits(&place) - before, 2);
}

#[tokio::test]
async fn the_second_claim_of_a_key_sees_the_first() {
    let place = Place::new();
    let store = place.open().await;
    let claims = [claim(1, 1), claim(1, 2), claim(2, 1), claim(1, 1)];
    let claimed: Vec<_> = store.claim_many(&claims).await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(claimed[0], Claimed::Won { attempt: 1, .. }), "{claimed:?}");
    assert!(matches!(claimed[1], Claimed::Busy { .. }), "{claimed:?}");
    assert!(matches!(claimed[2], Claimed::Won { .. }) && claimed[3] == claimed[0], "{claimed:?}");
}

/// A replay writes nothing, so that it costs no `fsync`.
#[tokio::test]
async fn what_changes_nothing_commits_nothing() {
    let place = Place::new();
    let store = place.open().await;
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "done")).await.unwrap(), Ownership::Held);
    let before = commits(&place);
    let replay = Ok(Claimed::Completed { answer: Some(answer("done")) });
    let all = store.claim_many(&[claim(1, 2), claim(1, 3)]).await;
    assert!(all.into_iter().all(|one| one.map_err(|_| ()) == replay));
    assert_eq!(store.claim(claim(1, 4)).await.map_err(|_| ()), replay);
    assert_eq!(store.complete(&complete(1, 4, "other")).await.unwrap(), Ownership::Lost);
    assert_eq!(commits(&place), before);
}

/// One that finds no room fails alone.
#[tokio::test]
async fn a_step_that_fails_fails_alone() {
    let place = Place::new();
    let store = place.options().max_bytes(1 << 20).open(place.file()).await.unwrap();
    let claims: Vec<_> = (0..10).map(|at| claim(at, 1)).collect();
    assert!(store.claim_many(&claims).await.iter().all(Result::is_ok));
    let large = Answer::from_bytes(Bytes::from(vec![1; 2 << 20]));
    let outcome = |at| if at == 5 { Outcome::Answer(large.clone()) } else { Outcome::Answer(answer("small")) };
    let complete = async |at| store.complete(&Complete::new(key(at), token(1), outcome(at), DAY)).await;
    let done = join_all((0..10).map(complete)).await;
    for (at, done) in (0..).zip(done) {
        match done {
            Ok(Ownership::Held) if at != 5 => {}
            Err(error) if at == 5 => assert_eq!(error.kind(), StoreErrorKind::Full, "{error}"),
            other => panic!("{at}: {other:?}"),
        }
    }
    // It can still be said that it ran.
    let tombstone = Complete::new(key(5), token(1), Outcome::Tombstone, DAY);
    assert_eq!(store.complete(&tombstone).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(5, 2)).await.unwrap(), Claimed::Completed { answer: None });
}

/// Whoever asks and goes away takes nobody else along.
#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing_for_the_others() {
    let place = Place::new();
    let store = place.open().await;
    let unseen = complete(1, 1, "gone");
    let gone = store.complete(&unseen);
    let claims: Vec<_> = (0..3).map(|at| claim(at, 1)).collect();
    let (claimed, ()) = tokio::join!(store.claim_many(&claims), async {
        tokio::select! {
            biased;
            _ = gone => panic!("nothing answers before it is polled"),
            () = std::future::ready(()) => {}
        }
    });
    assert!(claimed.iter().all(Result::is_ok), "{claimed:?}");
    assert_eq!(store.claim_many(&claims).await.len(), 3);
}

#[tokio::test]
async fn what_is_answered_is_on_the_disk_unless_it_was_said_otherwise() {
    for (options, level) in [
        (SqliteStore::builder(), 2),
        (SqliteStore::builder().synchronous(Synchronous::Full), 2),
        (SqliteStore::builder().synchronous(Synchronous::Normal), 1),
    ] {
        let place = Place::new();
        let store = options.open(place.file()).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        let pragma = || sqlx::query_scalar::<_, i64>("PRAGMA synchronous");
        let (ours, theirs) = (pragma().fetch_one(&mut *transaction).await, pragma().fetch_one(store.pool()).await);
        assert_eq!((ours.unwrap(), theirs.unwrap()), (level, level));
        store.rollback(transaction).await;
    }
}
