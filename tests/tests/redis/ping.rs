//! Whether the server would be given a claim.

use std::time::{Duration, Instant};

use idem_runtime::{RedisStore, Store, store::StoreErrorKind};
use tests::servers::{RedisCluster, RedisServer, eventually_async};

const TIMEOUT: Duration = Duration::from_millis(300);
const BEYOND: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_ping_says_within_the_time_out_that_the_server_is_away_and_that_it_is_back() {
    let mut server = RedisServer::start();
    let store = RedisStore::builder().command_timeout(TIMEOUT).connect(&server.url()).await.unwrap();
    store.ping().await.unwrap();
    let is_away = async |server: &RedisServer| {
        let begun = Instant::now();
        let error = store.ping().await.unwrap_err();
        assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
        assert!(matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Unreachable), "{error}");
        assert!(error.to_string().contains("ping"), "{error} at {}", server.port());
    };
    server.pause();
    is_away(&server).await;
    server.resume();
    eventually_async("it is back", Duration::from_secs(5), async || store.ping().await.ok()).await;
    server.kill();
    is_away(&server).await;
    server.restart();
    eventually_async("it is back", Duration::from_secs(5), async || store.ping().await.ok()).await;
}

/// Its claims are refused, so a ping must not say that all is well.
#[tokio::test]
async fn a_ping_says_that_the_server_evicts() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.run::<u32>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let error = eventually_async("the new connection is asked", Duration::from_secs(5), async || {
        store.ping().await.err().filter(|error| error.kind() == StoreErrorKind::Misconfigured)
    })
    .await;
    assert!(error.to_string().contains("allow_eviction"), "{error}");
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    store.ping().await.unwrap();
}

/// What lies there is nobody's business.
#[tokio::test]
async fn a_ping_writes_nothing_and_minds_nothing_that_lies_there() {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(server.run::<u32>(&["DBSIZE"]), 0);
    server.run::<()>(&["RPUSH", &format!("idem:{{{}}}", "00".repeat(32)), "a", "list"]);
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_pinged() {
    let cluster = RedisCluster::start();
    RedisStore::cluster(cluster.seeds()).await.unwrap().ping().await.unwrap();
}
