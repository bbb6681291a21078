//! What an operation costs at the server, counted there.

use idem_runtime::{
    RedisStore, Store,
    store::{Claim, Claimed, Ownership, Release},
};
use tests::claims::{DAY, LEASE, answer, claim, complete, fingerprint, key, redis_key, token, win};
use tests::servers::RedisServer;

#[tokio::test]
async fn a_first_execution_is_two_commands_and_a_replay_one() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();

    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    assert_eq!(server.count("evalsha"), 2);
    let outside: Vec<_> = server.calls().into_iter().filter(|(name, _)| !is_inside(name)).collect();
    assert_eq!(outside, [("evalsha".to_owned(), 2)]);

    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), replayed());
    assert_eq!(server.calls(), [("get".to_owned(), 1)]);

    // Another replica has not seen the answer: it asks once by the script, and knows it from then on.
    let other = RedisStore::connect(&server.url()).await.unwrap();
    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    assert_eq!(other.claim(claim(1, 3)).await.unwrap(), replayed());
    assert_eq!((server.count("evalsha"), server.count("get")), (1, 0));
    assert_eq!(other.claim(claim(1, 3)).await.unwrap(), replayed());
    assert_eq!((server.count("evalsha"), server.count("get")), (1, 1));
}

#[tokio::test]
async fn what_a_plain_read_cannot_replay_the_script_judges() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let finish = async |complete| assert_eq!(store.complete(complete).await.unwrap(), Ownership::Held);
    let under = redis_key(1);
    win(&store, claim(1, 1)).await;
    finish(complete(1, 1, "answer")).await;

    // The record is gone: one command more, and then the key is one like any other.
    server.run::<()>(&["FLUSHALL"]);
    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    win(&store, claim(1, 3)).await;
    let busy = store.claim(claim(1, 4)).await.unwrap();
    assert!(matches!(busy, Claimed::Busy { .. }), "{busy:?}");
    assert_eq!((server.count("evalsha"), server.count("get")), (2, 1));
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

/// What the scripts call.
fn is_inside(command: &str) -> bool {
    matches!(command, "get" | "set" | "time")
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    win(&store, claim(2, 1)).await;
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Held);

    server.run::<()>(&["CONFIG", "RESETSTAT"]);
    win(&store, claim(3, 1)).await;
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
