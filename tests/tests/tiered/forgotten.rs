//! A record that is forgotten is forgotten with its copy.

use idem_runtime::{
    Store,
    store::{Claimed, Forgotten, Ownership, StoreErrorKind},
};
use tests::claims::{answer, claim, complete, key, win};

use crate::support::{Both, copy_key};

#[tokio::test]
async fn a_record_is_forgotten_with_its_copy_at_every_replica() {
    let both = Both::start().await;
    both.completed(1, "body").await;
    let elsewhere = both.elsewhere().await;
    let kept = Claimed::Completed { answer: Some(answer("body")) };
    assert_eq!(elsewhere.claim(claim(1, 2)).await.unwrap(), kept);
    assert_eq!(both.store.forget(key(1)).await.unwrap(), Forgotten::Done);
    win(&elsewhere, claim(1, 2)).await;

    // What was on its way is not written over the mark, and nor is what came since: it is told by the authority.
    assert_eq!(elsewhere.complete(&complete(1, 2, "anew")).await.unwrap(), Ownership::Held);
    elsewhere.flush().await;
    let mark: Vec<u8> = both.redis.run(&["GET", &copy_key(1)]);
    assert_eq!(mark, [&[0][..], key(1).as_bytes()].concat());
    let left = both.redis.run::<i64>(&["PTTL", &copy_key(1)]);
    assert!((1..=60 * 60 * 1_000).contains(&left), "{left} ms");
    let anew = Claimed::Completed { answer: Some(answer("anew")) };
    for store in [&both.store, &elsewhere] {
        assert_eq!(store.claim(claim(1, 3)).await.unwrap(), anew);
    }
}

/// The copy would be replayed for as long as it lasts.
#[tokio::test]
async fn a_copy_that_may_be_left_is_an_error() {
    let both = Both::start().await;
    both.completed(1, "body").await;
    both.redis.pause();
    let error = both.store.forget(key(1)).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Unreachable), "{error}");
    assert!(error.to_string().contains("ask again"), "{error}");
    both.redis.resume();
    assert_eq!(both.store.forget(key(1)).await.unwrap(), Forgotten::Absent, "the authority has forgotten it");
    win(&both.elsewhere().await, claim(1, 2)).await;
}

/// Where nothing is forgotten, nothing is marked, and its answer is copied as ever.
#[tokio::test]
async fn what_is_left_alone_is_copied_as_ever() {
    let both = Both::start().await;
    win(&both.store, claim(1, 1)).await;
    assert_eq!(both.store.forget(key(1)).await.unwrap(), Forgotten::InFlight);
    assert_eq!(both.store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    both.store.flush().await;
    assert_eq!(both.redis.run::<Vec<u8>>(&["GET", &copy_key(1)])[0], 1);
}
