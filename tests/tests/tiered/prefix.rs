//! A cache under the prefix of a `RedisStore`, as after a move from there to copies in the same Redis.

use idem_runtime::{
    RedisStore, Store,
    store::{Complete, Outcome, Ownership, Release, Renew, StoreErrorKind, redis::RedisCache},
};
use tests::{
    claims::{DAY, answer, claim, complete, key, redis_key, token, win},
    servers::RedisServer,
};

use crate::support::{Both, copy_key, require_replayed};

/// One may be in flight at a replica of the version before: deleted, it would run again there.
#[tokio::test]
async fn the_records_of_a_store_stay_where_they_are() {
    let both = Both::with(&[], RedisServer::start(), RedisCache::builder().prefix("idem")).await;
    let before = RedisStore::connect(&both.redis.url()).await.unwrap();
    for at in 1..=7 {
        win(&before, claim(at, 1)).await;
    }
    let end = |at, outcome| Complete::new(key(at), token(1), outcome, DAY);
    let parked = Outcome::Parked(answer("why"));
    for (at, outcome) in [(3, Outcome::Tombstone), (4, Outcome::Unknown), (5, parked)] {
        assert_eq!(before.complete(&end(at, outcome)).await.unwrap(), Ownership::Held);
    }
    assert_eq!(before.renew(Renew::of(&claim(2, 1))).await.unwrap(), Ownership::Held);
    assert_eq!(before.release(Release::new(key(6), token(1)).remember(DAY)).await.unwrap(), Ownership::Held);
    assert_eq!(before.complete(&complete(7, 1, "theirs")).await.unwrap(), Ownership::Held);
    let record = |at| both.redis.run::<Vec<u8>>(&["GET", &redis_key(at)]);
    let records: Vec<_> = (1..=7).map(record).collect();

    for at in 1..=7 {
        both.completed(at, "ours").await;
        require_replayed(&both.store, at, "ours", "without a copy").await;
        both.store.flush().await;
        let error = both.store.forget(key(at)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("`prefix`"), "{error}");
    }
    assert_eq!((1..=7).map(record).collect::<Vec<_>>(), records);
    assert_eq!(before.complete(&complete(1, 1, "theirs")).await.unwrap(), Ownership::Held);
}

/// What is seen there and what is deleted there must be the same.
#[tokio::test]
async fn a_mark_that_came_in_the_place_of_garbage_is_not_deleted_for_it() {
    let redis = RedisServer::start();
    let clear = |seen: &str| {
        let script = include_str!("../../../idem-runtime/src/store/redis/clear.lua");
        redis.run::<u32>(&["EVAL", script, "1", &copy_key(1), seen])
    };
    redis.run::<()>(&["SET", &copy_key(1), "a mark"]);
    assert_eq!((clear("garbage"), redis.run::<u32>(&["EXISTS", &copy_key(1)])), (0, 1));
    redis.run::<()>(&["SET", &copy_key(1), "garbage"]);
    assert_eq!((clear("garbage"), redis.run::<u32>(&["EXISTS", &copy_key(1)])), (1, 0));
    assert_eq!(clear("garbage"), 0);
    redis.run::<()>(&["RPUSH", &copy_key(1), "a", "list"]);
    assert_eq!((clear("garbage"), redis.run::<u32>(&["EXISTS", &copy_key(1)])), (0, 1));
}
