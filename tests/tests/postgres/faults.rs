//! Servers that die, stand still, lose replies, fill up or turn read-only.

use std::time::{Duration, Instant};

use idem_runtime::{
    PostgresStore, Store,
    store::{Claimed, Ownership, Release, Renew, StoreErrorKind, postgres::driver as sqlx},
};
use tests::{
    claims::{answer, claim, complete, key, token, win},
    servers::{Proxy, eventually_async},
};

use crate::support::*;

fn through(proxy: &Proxy) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port())
}

async fn found_again(store: &PostgresStore, at: u32) -> Claimed {
    eventually_async("the store finds the server again", Duration::from_secs(10), async || {
        store.claim(claim(at, 3)).await.ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_costs_a_request_no_more_than_its_time_out() {
    let mut server = migrated(&[]).await;
    let pool = sqlx::PgPool::connect_lazy(&server.url()).unwrap();
    for store in [hasty().connect(&server.url()).await.unwrap(), hasty().with_pool(pool).await.unwrap()] {
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
            assert!(matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Unreachable), "{kind:?}");
            assert!(took < TIMEOUT + BEYOND, "{took:?}");
        }
        // By now nothing is sent any more.
        assert_eq!(store.claim(claim(1, 2)).await.unwrap_err().kind(), StoreErrorKind::Unreachable);
        server.restart();
        assert!(matches!(found_again(&store, 1).await, Claimed::Busy { .. }));
        assert_eq!(store.release(Release::new(key(1), token(1))).await.unwrap(), Ownership::Held);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_costs_the_time_out_and_is_found_again() {
    let server = migrated(&[]).await;
    let store = hasty().connect(&server.url()).await.unwrap();
    // Several connections lie idle.
    let all: Vec<_> = (0..10)
        .map(|at| {
            tokio::spawn({
                let store = store.clone();
                async move { win(&store, claim(at, 1)).await }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }

    server.pause();
    let all: Vec<_> = (10..40)
        .map(|at| {
            let store = store.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                (store.claim(claim(at, 1)).await.map(drop), begun.elapsed())
            })
        })
        .collect();
    for one in all {
        let (claimed, took) = one.await.unwrap();
        let kind = claimed.unwrap_err().kind();
        assert!(matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Unreachable), "{kind:?}");
        assert!(took < TIMEOUT + BEYOND, "{took:?}");
    }
    server.resume();
    found_again(&store, 50).await;
    // What was asked while it stood still is won when it is asked again.
    for at in 10..40 {
        win(&store, claim(at, 1)).await;
    }
}

#[tokio::test]
async fn silent_connections_are_replaced_after_the_first() {
    let server = migrated(&[]).await;
    let proxy = Proxy::start(server.port()).await;
    // Time enough for a new connection on a machine that has other things to do.
    let timeout = 4 * TIMEOUT;
    let store = PostgresStore::builder().command_timeout(timeout).connect(&through(&proxy)).await.unwrap();
    // One claim waits for another, so that there are two connections.
    let mut open = sqlx::PgPool::connect(&server.url()).await.unwrap().begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE idem_records").execute(&mut *open).await.unwrap();
    let waiting = [1, 2].map(|at| {
        tokio::spawn({
            let store = store.clone();
            async move { store.claim(claim(at, 1)).await }
        })
    });
    for one in waiting {
        assert!(matches!(one.await.unwrap().unwrap(), Claimed::Busy { .. }));
    }
    open.rollback().await.unwrap();
    win(&store, claim(1, 1)).await;

    proxy.swallow();
    let begun = Instant::now();
    let error = store.claim(claim(3, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begun.elapsed() < timeout + BEYOND, "{:?}", begun.elapsed());
    let before = proxy.connections();
    for at in 3..50 {
        win(&store, claim(at, 1)).await;
    }
    assert_eq!(proxy.connections(), before + 1);
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_and_the_claim_won() {
    let world = World::start().await;
    let proxy = Proxy::start(tests::servers::PostgresServer::shared().port()).await;
    let store = world.postgres.builder().connect(&through(&proxy)).await.unwrap();
    win(&store, claim(100, 1)).await;
    for at in 0..20 {
        proxy.lose_replies(1);
        let (fence, attempt) = win(&store, claim(at, 1)).await;
        assert_eq!(attempt, 1);
        assert_eq!(win(&store, claim(at, 1)).await, (fence, 1));
    }
    proxy.lose_replies(1);
    assert_eq!(store.renew(Renew::of(&claim(1, 1))).await.unwrap(), Ownership::Held);
    proxy.lose_replies(1);
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    // A release cannot be told from a release by somebody else: the owner is to ask. What it is sent as is known by then.
    win(&store, claim(200, 1)).await;
    assert_eq!(store.release(Release::new(key(200), token(1))).await.unwrap(), Ownership::Held);
    proxy.lose_replies(1);
    let error = store.release(Release::new(key(2), token(1))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(store.release(Release::new(key(2), token(1))).await.unwrap(), Ownership::Lost);
    win(&store, claim(2, 2)).await;
}

#[tokio::test]
async fn a_claim_that_is_dropped_midway_leaves_its_connection_to_nobody() {
    let world = World::start().await;
    let store = world.postgres.builder().max_connections(1).connect(&world.postgres.url()).await.unwrap();
    for at in 0..50 {
        let mut claiming = Box::pin(store.claim(claim(at, 1)));
        for _ in 0..at % 5 {
            if let Some(claimed) = futures_util::FutureExt::now_or_never(&mut claiming) {
                assert!(is_won(&claimed.unwrap()));
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(claiming);
        win(&store, claim(1_000 + at, 2)).await;
        win(&store, claim(at, 1)).await;
    }
    assert_eq!(world.number("SELECT count(*) FROM {t}").await, 100);
}

/// What a server says that has no room or may not write any more.
#[tokio::test]
async fn a_full_disk_and_a_read_only_server_run_nothing() {
    let world = World::start().await;
    win(&world.store, claim(1, 1)).await;
    assert_eq!(world.store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    let schema = world.postgres.schema();
    world
        .run(&format!(
            "CREATE FUNCTION {schema}.full() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        ))
        .await;
    world.run(&format!("CREATE TRIGGER full_disk BEFORE INSERT ON {{t}} EXECUTE FUNCTION {schema}.full()")).await;
    let error = world.store.claim(claim(2, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert_eq!(world.number("SELECT count(*) FROM {t}").await, 1);
    world.run("DROP TRIGGER full_disk ON {t}").await;
    win(&world.store, claim(2, 1)).await;

    let role = format!("reader_{schema}");
    world.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
    let url = world.postgres.url().replace("postgres@", &format!("{role}@"));
    let store = world.postgres.builder().connect(&url).await.unwrap();
    win(&store, claim(3, 1)).await;
    world.run(&format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await;
    let kick = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'");
    assert!(world.number(&kick).await > 0);
    let error = eventually_async("it may not write any more", Duration::from_secs(10), async || {
        store.claim(claim(4, 1)).await.err()
    })
    .await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
    world.run(&format!("ALTER ROLE {role} RESET default_transaction_read_only")).await;
    // The connection was closed with the error, so the next one knows better.
    win(&store, claim(4, 1)).await;
    world.run(&format!("DROP ROLE {role}")).await;
}

/// A migration of somebody else under a running store.
#[tokio::test]
async fn a_table_that_goes_away_is_told() {
    let world = World::start().await;
    win(&world.store, claim(1, 1)).await;
    world.run("ALTER TABLE {t} RENAME TO away").await;
    let error = world.store.claim(claim(2, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    world.run(&format!("ALTER TABLE {}.away RENAME TO idem_records", world.postgres.schema())).await;
    win(&world.store, claim(2, 1)).await;
    // A new column makes the plans of prepared statements old.
    world.run("ALTER TABLE {t} ADD COLUMN note text").await;
    win(&world.store, claim(3, 1)).await;
    assert_eq!(world.store.complete(&complete(3, 1, "answer")).await.unwrap(), Ownership::Held);
}
