//! Whether the server would take a claim.

use std::time::{Duration, Instant};

use idem_runtime::{
    Store,
    store::{StoreErrorKind, postgres::driver as sqlx},
};
use tests::servers::eventually_async;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_says_within_the_time_out_that_the_server_is_away_and_that_it_is_back() {
    let mut server = migrated(&[]).await;
    let pool = sqlx::PgPool::connect_lazy(&server.url()).unwrap();
    for store in [hasty().connect(&server.url()).await.unwrap(), hasty().with_pool(pool).await.unwrap()] {
        store.ping().await.unwrap();
        let is_away = async || {
            let begun = Instant::now();
            let error = store.ping().await.unwrap_err();
            assert!(begun.elapsed() < TIMEOUT + BEYOND, "{:?}", begun.elapsed());
            assert!(matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Unreachable), "{error}");
        };
        server.pause();
        is_away().await;
        server.resume();
        eventually_async("it is back", Duration::from_secs(10), async || store.ping().await.ok()).await;
        server.kill();
        is_away().await;
        server.restart();
        eventually_async("it is back", Duration::from_secs(10), async || store.ping().await.ok()).await;
    }
}

/// What a former primary answers, it would answer a claim too.
#[tokio::test]
async fn a_ping_says_that_the_server_may_not_write_or_has_lost_its_table() {
    let world = World::start().await;
    world.store.ping().await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM {t}").await, 0);
    world.run("ALTER TABLE {t} RENAME TO away_from_ping").await;
    let error = world.store.ping().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");

    let server = migrated(&[]).await;
    let store = patient().connect(&server.url()).await.unwrap();
    store.ping().await.unwrap();
    server.run("ALTER SYSTEM SET default_transaction_read_only = on");
    server.run("SELECT pg_reload_conf()");
    let error =
        eventually_async("it may not write any more", Duration::from_secs(10), async || store.ping().await.err()).await;
    assert!(error.to_string().contains("read-only"), "{error}");
}
