//! What an operation costs at the server, counted there.

use idem_runtime::{
    RedisStore, Store,
    store::{Claimed, Ownership, Release},
};
use tests::claims::{answer, claim, complete, key, token, win};
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
    let replay = store.claim(claim(1, 2)).await.unwrap();
    assert_eq!(replay, Claimed::Completed { answer: Some(answer("answer")) });
    assert_eq!(server.count("evalsha"), 1);
    assert_eq!(server.calls().into_iter().filter(|(name, _)| !is_inside(name)).count(), 1);
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
