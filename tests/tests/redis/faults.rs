//! Servers that die, stand still, lose replies or fill up.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use idem_runtime::{
    RedisStore, Store,
    store::{Claimed, Complete, Outcome, Ownership, Release, Renew, StoreErrorKind},
};
use tests::claims::{answer, claim, complete, key, token, win};
use tests::servers::{Proxy, RedisServer, eventually_async};

const TIMEOUT: Duration = Duration::from_millis(300);
/// What a fault may cost a request beyond the time-out.
const BEYOND: Duration = Duration::from_millis(300);

async fn connect(url: &str) -> RedisStore {
    RedisStore::builder().command_timeout(TIMEOUT).connect(url).await.unwrap()
}

#[tokio::test]
async fn a_dead_server_costs_a_request_no_more_than_its_time_out() {
    let mut server = RedisServer::start();
    let store = connect(&server.url()).await;
    win(&store, claim(1, 1)).await;
    server.kill();

    let all: Vec<_> = (0..40)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let error = store.claim(claim(at, 2)).await.unwrap_err();
                (error.kind(), begun.elapsed())
            })
        })
        .collect();
    for one in all {
        let (kind, took) = one.await.unwrap();
        assert_eq!(kind, StoreErrorKind::Unavailable);
        assert!(took < TIMEOUT + BEYOND, "{took:?}");
    }

    server.restart();
    eventually_async("the store finds the server again", Duration::from_secs(5), async || {
        store.claim(claim(1, 3)).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stands_still_costs_the_time_out_and_is_found_again() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    win(&store, claim(1, 1)).await;

    server.pause();
    for at in 10..13 {
        let begun = Instant::now();
        let error = store.claim(claim(at, 1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
    }
    server.resume();
    eventually_async("the store finds the server again", Duration::from_secs(5), async || {
        store.claim(claim(20, 1)).await.ok()
    })
    .await;
    // What was asked while it stood still is won when it is asked again.
    win(&store, claim(10, 1)).await;
}

#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let store = connect(&proxy.url()).await;
    win(&store, claim(1, 1)).await;
    assert_eq!(proxy.connections(), 1);

    proxy.swallow();
    let begun = Instant::now();
    let error = store.claim(claim(2, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
    win(&store, claim(2, 1)).await;
    assert_eq!(proxy.connections(), 2);
    for at in 3..50 {
        win(&store, claim(at, 1)).await;
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_and_the_claim_won() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let store = connect(&proxy.url()).await;

    for at in 0..20 {
        proxy.lose_replies(1);
        server.run::<()>(&["CONFIG", "RESETSTAT"]);
        let (fence, attempt) = win(&store, claim(at, 1)).await;
        // Twice by commands of the server's own. The second finds the first, and the script knows whose it is.
        assert_eq!((attempt, server.count("set"), server.count("evalsha")), (1, 3, 1), "claimed again at the server");
        assert_eq!(win(&store, claim(at, 1)).await, (fence, 1));
    }

    proxy.lose_replies(1);
    assert_eq!(store.renew(Renew::of(&claim(1, 1))).await.unwrap(), Ownership::Held);
    proxy.lose_replies(1);
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    proxy.lose_replies(1);
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Held);
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Lost);
}

#[tokio::test]
async fn replies_lost_again_and_again_are_an_error_and_the_claim_is_still_ones_own() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let store = connect(&proxy.url()).await;

    proxy.lose_replies(2);
    let error = store.claim(claim(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(matches!(connect(&server.url()).await.claim(claim(1, 2)).await.unwrap(), Claimed::Busy { .. }));
    proxy.lose_replies(0);
    let claimed = eventually_async("the store connects anew", Duration::from_secs(5), async || {
        store.claim(claim(1, 1)).await.ok()
    })
    .await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}");
}

/// A new password cuts nobody off who is connected. What the server says to whoever connects anew is not said of what it did before.
#[tokio::test]
async fn a_claim_whose_reply_is_lost_with_the_login_may_have_been_won() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all"]);
    let proxy = Proxy::start(server.port()).await;
    let store = connect(&format!("redis://app:hunter2@127.0.0.1:{}", proxy.port())).await;
    server.run::<()>(&["ACL", "SETUSER", "app", "<hunter2", ">hunter3"]);
    proxy.lose_replies(1);
    let error = store.claim(claim(1, 1)).await.unwrap_err();
    assert!(error.to_string().contains("authentication failed"), "{error}");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert_eq!(server.run::<u32>(&["DBSIZE"]), 1);
    // Of what was never sent it is said as it is.
    let error = eventually_async("the store connects anew", Duration::from_secs(5), async || {
        store.claim(claim(2, 1)).await.err().filter(|error| error.to_string().contains("authentication failed"))
    })
    .await;
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn at_the_memory_limit_claims_are_refused_and_nothing_is_lost() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    for at in 2..6 {
        win(&store, claim(at, 1)).await;
    }
    let unknown = Complete::new(key(5), token(1), Outcome::Unknown, tests::claims::DAY);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);

    assert_eq!(store.claim(claim(100, 1)).await.unwrap_err().kind(), StoreErrorKind::Full);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    let other = connect(&server.url()).await;
    assert_eq!(other.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    assert!(matches!(store.claim(claim(2, 2)).await.unwrap(), Claimed::Busy { .. }));
    assert_eq!(store.renew(Renew::of(&claim(2, 1))).await.unwrap(), Ownership::Held);
    assert_eq!(store.complete(&complete(2, 1, "late")).await.unwrap(), Ownership::Held);
    assert_eq!(store.release(Release::new(key(3), token(1))).await.unwrap(), Ownership::Held);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(2, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("late")) });

    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    win(&store, claim(100, 1)).await;
}

#[tokio::test]
async fn a_server_that_refuses_to_write_still_replays() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    win(&store, claim(2, 1)).await;
    server.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);

    // One that has not seen the answer asks the script.
    let other = connect(&server.url()).await;
    assert_eq!(other.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    assert!(matches!(other.claim(claim(2, 2)).await.unwrap(), Claimed::Busy { .. }));
    let refused = other.claim(claim(3, 1)).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("NOREPLICAS"), "{refused}");

    server.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    win(&store, claim(3, 1)).await;
}

#[tokio::test]
async fn records_outlive_a_killed_server_that_writes_to_disk() {
    let mut server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = connect(&server.url()).await;
    let (fence, _) = win(&store, claim(0, 1)).await;
    for at in 1..200 {
        win(&store, claim(at, 1)).await;
        assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
    }
    server.kill();
    server.restart();

    let again = eventually_async("the store finds the server again", Duration::from_secs(5), async || {
        store.claim(claim(0, 2)).await.ok()
    })
    .await;
    assert!(matches!(again, Claimed::Busy { .. }), "{again:?}");
    for at in 1..200 {
        assert_eq!(store.claim(claim(at, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    }
    assert_eq!(win(&store, claim(0, 1)).await, (fence, 1));
}

#[tokio::test]
async fn a_claim_whose_caller_goes_away_harms_no_other() {
    let server = RedisServer::start();
    let store = connect(&server.url()).await;
    for at in 0..200 {
        let mut dropped = store.claim(claim(at, 1));
        // Polled once: the command is on its way when the caller goes.
        let polled = poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        drop(dropped);
        let (_, attempt) = win(&store, claim(1_000 + at, 2)).await;
        assert_eq!(attempt, 1);
    }
}
