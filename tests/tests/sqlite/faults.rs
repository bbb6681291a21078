//! The file is full, locked, read-only or damaged while the store runs: nothing is won that was not written.

use std::time::{Duration, Instant};

use bytes::Bytes;
use idem_runtime::{
    Answer, Store,
    store::{Claimed, Complete, Outcome, Ownership, Release, StoreErrorKind, Transactions},
};
use tests::claims::*;

use crate::{Place, SOON, refused};

#[tokio::test]
async fn a_full_file_refuses_claims_and_replays_go_on() {
    let place = Place::new();
    let store = place.options().max_bytes(256 << 10).open(place.file()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let answer = Answer::from_bytes(Bytes::from(vec![7; 10_000]));
    let mut full = None;
    for at in 0..100 {
        let complete = Complete::new(key(at), token(1), Outcome::Answer(answer.clone()), hour);
        let done = match store.claim(claim(at, 1)).await {
            Ok(Claimed::Won { .. }) => store.complete(&complete).await,
            other => other.map(|claimed| panic!("{claimed:?}")),
        };
        if let Err(error) = done {
            assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
            full = Some(at);
            break;
        }
    }
    let full = full.expect("a megabyte does not fit");
    assert!(full > 5, "{full}");
    assert_eq!(store.claim(claim(0, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer.clone()) });
    // Whoever was refused holds nothing, or can say that it ran.
    match store.claim(claim(full, 1)).await {
        Ok(Claimed::Won { .. }) => {
            let tombstone = Complete::new(key(full), token(1), Outcome::Tombstone, hour);
            assert_eq!(store.complete(&tombstone).await.unwrap(), Ownership::Held);
        }
        other => drop(refused(other, StoreErrorKind::Full)),
    }
    // What is past its time makes room.
    place.clock.advance(2 * hour);
    for at in 200..205 {
        win(&store, claim(at, 1)).await;
        let complete = Complete::new(key(at), token(1), Outcome::Answer(answer.clone()), hour);
        assert_eq!(store.complete(&complete).await.unwrap(), Ownership::Held);
    }
}

#[tokio::test]
async fn a_file_that_another_has_locked_is_told_in_time_and_nothing_was_done() {
    let place = Place::new();
    let (store, other) = (place.open_impatient().await, place.open().await);
    win(&store, claim(1, 1)).await;
    let held = other.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let began = Instant::now();
    refused(store.claim(claim(2, 1)).await, StoreErrorKind::Unreachable);
    refused(store.complete(&complete(1, 1, "done")).await, StoreErrorKind::Unreachable);
    refused(store.release(Release::new(key(1), token(1))).await, StoreErrorKind::Unreachable);
    for claimed in store.claim_many(&[claim(3, 1), claim(4, 1)]).await {
        refused(claimed, StoreErrorKind::Unreachable);
    }
    assert!(began.elapsed() < 4 * SOON + Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(matches!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Busy { .. }), "who only looks does not wait");
    held.rollback().await.unwrap();
    for at in 2..5 {
        assert_eq!(win(&store, claim(at, 2)).await.1, 1, "nothing was done");
    }
    assert_eq!(store.complete(&complete(1, 1, "done")).await.unwrap(), Ownership::Held);
}

/// As a file system that was mounted anew, for reading only.
#[tokio::test]
async fn a_file_that_becomes_read_only_is_told() {
    let place = Place::new();
    let store = place.open().await;
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "done")).await.unwrap(), Ownership::Held);
    // A setting that stays with the one connection that writes.
    let mut transaction = store.begin().await.unwrap();
    sqlx::query("PRAGMA query_only = ON").execute(&mut *transaction).await.unwrap();
    store.rollback(transaction).await;
    let said = refused(store.claim(claim(2, 1)).await, StoreErrorKind::Misconfigured);
    assert!(said.contains("cannot be written to"), "{said}");
    refused(store.begin().await.map(drop), StoreErrorKind::Misconfigured);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("done")) });
    assert_eq!(win(&place.open().await, claim(2, 2)).await.1, 1, "nothing was done");
}

#[tokio::test]
async fn a_damaged_file_wins_nothing() {
    let place = Place::new();
    let store = place.open().await;
    let claims: Vec<_> = (0..200).map(|at| claim(at, 1)).collect();
    assert!(store.claim_many(&claims).await.iter().all(Result::is_ok));
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(store.pool()).await.unwrap();
    drop(store);
    let mut bytes = std::fs::read(place.file()).unwrap();
    // Its first page says what the tables are; the others are theirs.
    bytes[4096..].fill(0xff);
    let copy = place.directory.path().join("damaged.db");
    std::fs::write(&copy, bytes).unwrap();
    match place.options().open(&copy).await {
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}"),
        Ok(store) => {
            for at in 0..200 {
                refused(store.claim(claim(at, 2)).await, StoreErrorKind::Misconfigured);
            }
        }
    }
}

/// Its tables are dropped under it.
#[tokio::test]
async fn a_file_without_its_tables_wins_nothing() {
    let place = Place::new();
    let store = place.open().await;
    win(&store, claim(1, 1)).await;
    sqlx::query("DROP TABLE idem_records").execute(store.pool()).await.unwrap();
    refused(store.claim(claim(2, 1)).await, StoreErrorKind::Misconfigured);
    refused(store.complete(&complete(1, 1, "done")).await, StoreErrorKind::Misconfigured);
}
