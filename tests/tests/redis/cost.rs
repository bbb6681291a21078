//! What an operation costs at the server, counted there.

use idem_runtime::{
    RedisStore, Store,
    store::{Claim, Claimed, Complete, Ownership, Release},
};
use tests::claims::{DAY, LEASE, answer, claim, complete, fingerprint, key, redis_key, token, win};
use tests::servers::{Proxy, RedisServer};

#[tokio::test]
async fn a_first_execution_is_two_round_trips_and_a_replay_one() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let measure = async |store: &RedisStore, by: u8| {
        server.run::<()>(&["CONFIG", "RESETSTAT"]);
        let before = proxy.replies();
        let claimed = store.claim(claim(1, by)).await.unwrap();
        let is_first = matches!(claimed, Claimed::Won { .. });
        if is_first {
            assert_eq!(store.complete(&complete(1, by, "answer")).await.unwrap(), Ownership::Held);
        } else {
            assert_eq!(claimed, replayed());
        }
        (is_first, proxy.replies() - before)
    };

    let called = || {
        let mut calls = server.calls();
        calls.sort_unstable();
        calls
    };

    assert_eq!(measure(&store, 1).await, (true, 2));
    // The claim is a plain `SET`, with a question behind it in the same write. The completion is a script, which reads and writes.
    let calls = [("evalsha", 1), ("get", 1), ("pexpiretime", 1), ("set", 2)];
    assert_eq!(called(), calls.map(|(name, calls)| (name.to_owned(), calls)));

    assert_eq!(measure(&store, 2).await, (false, 1));
    assert_eq!(server.calls(), [("get".to_owned(), 1)]);

    // Another replica has not seen the answer: its claim finds it, and it knows it from then on.
    let other = RedisStore::connect(&proxy.url()).await.unwrap();
    assert_eq!(measure(&other, 3).await, (false, 1));
    assert_eq!(called(), [("pexpiretime".to_owned(), 1), ("set".to_owned(), 1)]);
    assert_eq!(measure(&other, 3).await, (false, 1));
    assert_eq!(server.calls(), [("get".to_owned(), 1)]);
}

#[tokio::test]
async fn what_only_the_script_can_judge_is_two_round_trips() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    win(&store, claim(1, 1)).await;
    let before = proxy.replies();
    let busy = store.claim(claim(1, 2)).await.unwrap();
    assert!(matches!(busy, Claimed::Busy { .. }), "{busy:?}");
    assert_eq!(store.claim(Claim::new(key(1), token(3), fingerprint(2), LEASE)).await.unwrap(), Claimed::Mismatch);
    assert_eq!(proxy.replies() - before, 4);
}

#[tokio::test]
async fn what_a_plain_read_cannot_replay_the_script_judges() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let finish = async |complete: Complete| assert_eq!(store.complete(&complete).await.unwrap(), Ownership::Held);
    let under = redis_key(1);
    win(&store, claim(1, 1)).await;
    finish(complete(1, 1, "answer")).await;

    // The record is gone: one command more, and then the key is one like any other.
    server.run::<()>(&["FLUSHALL"]);
    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    win(&store, claim(1, 3)).await;
    let busy = store.claim(claim(1, 4)).await.unwrap();
    assert!(matches!(busy, Claimed::Busy { .. }), "{busy:?}");
    // Each script reads once, too.
    assert_eq!((server.count("evalsha"), server.count("get")), (2, 3));
    finish(complete(1, 3, "another")).await;
    let another = Claimed::Completed { answer: Some(answer("another")) };
    assert_eq!(store.claim(claim(1, 5)).await.unwrap(), another);

    // Another request under the key.
    assert_eq!(store.claim(Claim::new(key(1), token(6), fingerprint(2), LEASE)).await.unwrap(), Claimed::Mismatch);

    // Something else lies under the key by now.
    assert_eq!(store.claim(claim(1, 7)).await.unwrap(), another);
    server.run::<()>(&["DEL", &under]);
    server.run::<()>(&["LPUSH", &under, "x"]);
    assert_eq!(store.claim(claim(1, 8)).await.unwrap(), Claimed::Unreadable);

    // An answer with a time of its own needs the server's clock.
    win(&store, claim(2, 1)).await;
    finish(complete(2, 1, "answer").remember(DAY * 2)).await;
    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    for by in 2..4 {
        assert_eq!(store.claim(claim(2, by)).await.unwrap(), replayed());
    }
    assert_eq!(server.count("evalsha"), 2);
}

fn replayed() -> Claimed {
    Claimed::Completed { answer: Some(answer("answer")) }
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    win(&store, claim(2, 1)).await;
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Held);

    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    win(&store, claim(3, 1)).await;
    assert_eq!(store.complete(&complete(3, 1, "answer")).await.unwrap(), Ownership::Held);
    assert_eq!((server.count("evalsha"), server.count("eval")), (1, 0));
}

#[tokio::test]
async fn every_operation_shares_one_connection() {
    let server = RedisServer::start();
    let before: u64 = server.info("total_connections_received").parse().unwrap();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let all: Vec<_> = (0..200)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move { win(&store, claim(at, 1)).await })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    let after: u64 = server.info("total_connections_received").parse().unwrap();
    // One for the store, one for the question just asked.
    assert_eq!(after - before, 2);
}
