//! The list of what is parked: an entry for each record that is or may be, and nothing that stays for ever.

use idem_runtime::{
    StorageKey,
    store::{
        Claimed, Complete, Outcome, Ownership, Parked, RedisStore, Release, Resolve, Resolved, Store, StoreErrorKind,
        Verdict,
    },
};
use tests::claims::{DAY, answer, claim, complete, key, redis_key, token, win};
use tests::servers::RedisServer;

use super::records::{put, start};

fn entries(server: &RedisServer) -> Vec<String> {
    server.run(&["ZRANGE", "idem:parked", "0", "-1"])
}

fn hex(at: u32) -> String {
    redis_key(at).trim_start_matches("idem:{").trim_end_matches('}').to_owned()
}

async fn park(store: &RedisStore, at: u32, by: u8) {
    let parked = Complete::new(key(at), token(by), Outcome::Parked(answer("why")), DAY);
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
}

async fn keys(store: &RedisStore) -> Vec<StorageKey> {
    store.parked(Parked::first(100)).await.unwrap().into_iter().map(|record| record.key).collect()
}

#[tokio::test]
async fn the_list_keeps_what_is_or_may_be_parked_and_nothing_else() {
    let (server, store) = start().await;
    for at in 1..=4 {
        win(&store, claim(at, 7)).await;
        park(&store, at, 7).await;
    }
    let all: Vec<_> = (1..=4).map(|at| format!("{}:{}", hex(at), "07".repeat(16))).collect();
    assert_eq!(entries(&server), all);
    assert_eq!(server.run::<i64>(&["ZSCORE", "idem:parked", &all[0]]), 0);
    assert_eq!(expiry_of(&server, "idem:parked"), -1);
    // Asked again it is the same entry.
    park(&store, 1, 7).await;
    assert_eq!(entries(&server), all);

    // An entry goes when somebody lists who finds its record settled.
    let done = Verdict::Completed { answer: None, ttl: DAY, remember: DAY };
    assert_eq!(store.resolve(&Resolve::new(key(1), done)).await.unwrap(), Resolved::Applied);
    assert_eq!(store.resolve(&Resolve::new(key(2), Verdict::NotExecuted)).await.unwrap(), Resolved::Applied);
    assert_eq!(entries(&server), all);
    assert_eq!(keys(&store).await, [key(3), key(4)]);
    assert_eq!(entries(&server), all[2..]);

    // Whoever crashes between the entry and the record leaves an entry, which stays as long as it may come true.
    server.run::<()>(&["DEL", "idem:parked", &redis_key(3), &redis_key(4)]);
    for at in 5..=9 {
        win(&store, claim(at, 7)).await;
        server.run::<()>(&["ZADD", "idem:parked", "0", &format!("{}:{}", hex(at), "07".repeat(16))]);
    }
    let unknown = Complete::new(key(6), token(7), Outcome::Unknown, DAY);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    assert_eq!(store.complete(&complete(7, 7, "done")).await.unwrap(), Ownership::Held);
    let released = Release::new(key(8), token(7)).remember(DAY);
    assert_eq!(store.release(released).await.unwrap(), Ownership::Held);
    put(&server, 9, b"no record of ours");
    // Nor is what somebody else wrote there in the way.
    for strange in ["", "x", "zz"] {
        server.run::<()>(&["ZADD", "idem:parked", "0", strange]);
    }
    assert_eq!(keys(&store).await, []);
    let stays: Vec<_> = [5, 6, 9].map(hex).into_iter().collect();
    let left = entries(&server);
    let left: Vec<_> = left.iter().filter_map(|entry| entry.split_once(':')).map(|(hex, _)| hex.to_owned()).collect();
    assert_eq!(left, stays);
    park(&store, 5, 7).await;
    park(&store, 6, 7).await;
    assert_eq!(keys(&store).await, [key(5), key(6)]);
    assert_eq!(store.parked(Parked::first(1)).await.unwrap().len(), 1);
}

fn expiry_of(server: &RedisServer, key: &str) -> i64 {
    server.run(&["PTTL", key])
}

/// Whoever lists saw an entry whose record was settled, and takes it out while the next owner of the key parks it.
#[tokio::test]
async fn dropping_a_stale_entry_never_drops_that_of_a_later_parking() {
    let (server, store) = start().await;
    win(&store, claim(1, 7)).await;
    park(&store, 1, 7).await;
    let seen = entries(&server);
    assert_eq!(store.resolve(&Resolve::new(key(1), Verdict::NotExecuted)).await.unwrap(), Resolved::Applied);
    win(&store, claim(1, 8)).await;
    park(&store, 1, 8).await;
    server.run::<()>(&["ZREM", "idem:parked", &seen[0]]);
    assert_eq!(keys(&store).await, [key(1)]);
}

/// What is parked is written down at the memory limit too.
#[tokio::test]
async fn a_list_of_another_kind_is_an_error_and_a_full_server_parks() {
    let (server, store) = start().await;
    win(&store, claim(1, 7)).await;
    server.run::<()>(&["SET", "idem:parked", "mine"]);
    let parked = Complete::new(key(1), token(7), Outcome::Parked(answer("why")), DAY);
    let error = store.complete(&parked.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    let error = store.parked(Parked::first(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(matches!(store.claim(claim(1, 8)).await.unwrap(), Claimed::Busy { .. }), "nothing was parked");
    server.run::<()>(&["DEL", "idem:parked"]);

    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = store.claim(claim(2, 7)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    assert_eq!(keys(&store).await, [key(1)]);
}

#[tokio::test]
async fn a_list_longer_than_a_burst_is_read_to_its_end() {
    let (server, store) = start().await;
    for at in 0..300 {
        win(&store, claim(at, 7)).await;
        park(&store, at, 7).await;
    }
    // All but a few in the last burst are settled, and one key was parked twice.
    for at in (0..300).filter(|at| ![3, 290, 299].contains(at)) {
        assert_eq!(store.resolve(&Resolve::new(key(at), Verdict::NotExecuted)).await.unwrap(), Resolved::Applied);
    }
    server.run::<()>(&["ZADD", "idem:parked", "0", &format!("{}:{}", hex(3), "0".repeat(32))]);
    let page = store.parked(Parked::first(3)).await.unwrap();
    assert_eq!(page.iter().map(|record| record.key).collect::<Vec<_>>(), [key(3), key(290), key(299)]);
    assert_eq!(store.parked(Parked::first(2).after(key(3))).await.unwrap().len(), 2);
    assert_eq!(keys(&store).await, [key(3), key(290), key(299)]);
    assert_eq!(server.run::<usize>(&["ZCARD", "idem:parked"]), 4);
}
