//! How the store connects, and what it refuses to connect to.

use std::time::{Duration, Instant};

use idem_runtime::{
    PostgresStore, Store,
    store::{
        Ownership, StoreError, StoreErrorKind,
        postgres::{PostgresStoreBuilder, driver as sqlx},
    },
};
use tests::{
    claims::{claim, complete, win},
    servers::{PostgresServer, Proxy, eventually_async},
};
use tokio::task::JoinSet;

use crate::support::*;

fn misconfigured<T: std::fmt::Debug>(connected: Result<T, StoreError>, says: &str) {
    let error = connected.expect_err("a refusal");
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(says), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_wrong_url_is_told_without_its_password() {
    for url in ["not a url", "http://app:hunter2@localhost/db", "postgres://app:hunter2@localhost:port/db"] {
        misconfigured(patient().connect(url).await, "write `postgres://");
        misconfigured(patient().migrate(url).await, "write `postgres://");
    }
    let url = "postgres://app:hunter2@localhost/db?sslmode=hunter2";
    misconfigured(patient().connect(url).await, "write `postgres://");
    misconfigured(patient().table("a; DROP").connect("postgres://localhost").await, "no name");
    misconfigured(patient().schema("Ä").connect("postgres://localhost").await, "no name");
    let builder = patient();
    assert!(!format!("{builder:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_time_of_nothing_or_without_end_is_told_before_anything_is_connected() {
    type Set = fn(PostgresStoreBuilder, Duration) -> PostgresStoreBuilder;
    let hour = Duration::from_secs(60 * 60);
    let pool = sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1").unwrap();
    let times: [(&str, Duration, Set); 6] = [
        ("command_timeout", hour, PostgresStoreBuilder::command_timeout),
        ("statement_timeout", hour, PostgresStoreBuilder::statement_timeout),
        ("lock_timeout", hour, PostgresStoreBuilder::lock_timeout),
        ("acquire_timeout", hour, PostgresStoreBuilder::acquire_timeout),
        ("connect_timeout", hour, PostgresStoreBuilder::connect_timeout),
        ("sweep_every", 24 * hour, |builder, interval| builder.sweep_every(interval)),
    ];
    for (option, longest, set) in times {
        for wrong in [Duration::ZERO, Duration::from_micros(999), longest + Duration::from_nanos(1), Duration::MAX] {
            let builder = || set(PostgresStore::builder(), wrong);
            let says = format!("`{option}` is not between 1 ms and");
            misconfigured(builder().connect("postgres://app:hunter2@127.0.0.1:1").await, &says);
            misconfigured(builder().with_pool(pool.clone()).await, &says);
            misconfigured(builder().migrate("postgres://app:hunter2@127.0.0.1:1").await, &says);
        }
        for right in [Duration::from_millis(1), longest] {
            let connected = set(PostgresStore::builder(), right).connect("postgres://127.0.0.1:1").await;
            assert_eq!(connected.unwrap_err().kind(), StoreErrorKind::Unreachable, "{option} of {right:?}");
        }
    }
}

#[tokio::test]
async fn a_login_is_needed_and_never_shown() {
    let server = migrated(&[]).await;
    server
        .run("CREATE ROLE secured LOGIN PASSWORD 'hunter2'; GRANT ALL ON idem_records, idem_records_schema TO secured");
    let store = patient().connect(&server.url_of("secured:hunter2")).await.unwrap();
    win(&store, claim(1, 1)).await;
    let shown = format!("{store:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("secured"), "{shown}");

    misconfigured(patient().connect(&server.url_of("secured:hunter2wrong")).await, "password");
    misconfigured(patient().connect(&server.url_of("nobody_known")).await, "nobody_known");
    let elsewhere = server.url().replace("/postgres", "/nowhere");
    misconfigured(patient().connect(&elsewhere).await, "nowhere");
}

#[tokio::test]
async fn who_may_not_do_what_the_statements_do_is_told() {
    let server = migrated(&[]).await;
    server.run("CREATE ROLE app LOGIN");
    let url = server.url_of("app");
    misconfigured(patient().connect(&url).await, "SELECT, INSERT, UPDATE, DELETE");
    server.run("GRANT SELECT, INSERT, DELETE ON idem_records TO app");
    misconfigured(patient().connect(&url).await, "may not UPDATE");
    // What the documentation says is enough.
    server.run("GRANT UPDATE ON idem_records TO app; GRANT SELECT ON idem_records_schema TO app");
    let store = patient().connect(&url).await.unwrap();
    patient().migrate(&url).await.unwrap();
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    assert_eq!(store.expire(10).await.unwrap(), 0);

    // Taken away later, it is an error of every step, and nothing runs.
    server.run("REVOKE INSERT ON idem_records FROM app");
    misconfigured(store.claim(claim(2, 1)).await, "42501");
    misconfigured(patient().table("mine").migrate(&url).await, "42501");
}

#[tokio::test]
async fn a_table_that_is_missing_or_of_another_layout_is_told() {
    let server = PostgresServer::start();
    let url = server.url();
    misconfigured(patient().connect(&url).await, "PostgresStore::migrate");
    // By hand, twice, as the migrations of a service would.
    server.run(PostgresStore::SCHEMA);
    server.run(PostgresStore::SCHEMA);
    // As a service without further wishes would.
    PostgresStore::connect(&url).await.unwrap();
    PostgresStore::migrate(&url).await.unwrap();

    for (version, says) in [("2", "later version of idem"), ("0", "migrate")] {
        server.run(&format!("UPDATE idem_records_schema SET version = {version}"));
        misconfigured(patient().connect(&url).await, says);
        misconfigured(patient().migrate(&url).await, says);
    }
    server.run("DELETE FROM idem_records_schema");
    misconfigured(patient().connect(&url).await, "does not say its layout");
    server.run("INSERT INTO idem_records_schema VALUES (1); ALTER TABLE idem_records RENAME forget TO forgotten");
    misconfigured(patient().connect(&url).await, "other columns");
}

#[tokio::test]
async fn replicas_that_start_at_once_make_one_table() {
    let server = PostgresServer::start();
    server.run("CREATE SCHEMA shop");
    let mut all = JoinSet::new();
    for _ in 0..12 {
        let builder = patient().schema("shop").table("operations");
        let url = server.url();
        all.spawn(async move {
            builder.clone().migrate(&url).await.unwrap();
            builder.connect(&url).await.unwrap()
        });
    }
    let mut stores = all.join_all().await;
    win(&stores.remove(0), claim(1, 1)).await;
    assert_eq!(server.run("SELECT count(*) FROM shop.operations"), "1");
    assert_eq!(server.run("SELECT version FROM shop.operations_schema"), "1");

    // With the table there, it waits for nobody.
    let mut writer = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE shop.operations SET attempt = 1").execute(&mut writer).await.unwrap();
    patient().schema("shop").table("operations").migrate(&server.url()).await.unwrap();
}

/// A session that holds what tables are made under.
async fn hold_the_lock(server: &PostgresServer) -> sqlx::PgConnection {
    let mut holder = <sqlx::PgConnection as sqlx::Connection>::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock(7593157086093829)").execute(&mut holder).await.unwrap();
    holder
}

async fn until_one_waits_to_make_a_table(server: &PostgresServer) {
    eventually_async("somebody waits for the lock", Duration::from_secs(20), async || {
        (server.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "1").then_some(())
    })
    .await;
}

/// As a replica does that stands still while it makes a table.
#[tokio::test]
async fn a_lock_that_somebody_keeps_holds_up_only_who_makes_a_table_and_not_for_long() {
    let server = migrated(&[]).await;
    let url = server.url();
    let _held = hold_the_lock(&server).await;

    // Whose table is there does not ask for it.
    patient().migrate(&url).await.unwrap();

    let limit = Duration::from_millis(400);
    let begun = Instant::now();
    let error = patient().table("mine").acquire_timeout(limit).migrate(&url).await.unwrap_err();
    assert!(begun.elapsed() < limit + Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    // What it says to do is what helps.
    let text = error.to_string();
    assert!(text.contains("another session holds the lock"), "{text}");
    let mends = text.split('`').find(|part| part.starts_with("SELECT")).unwrap();
    assert_eq!(server.run(mends), "t");
    patient().table("mine").migrate(&url).await.unwrap();
}

/// Nothing is heard of it any more, and nobody hears that: its connection stays open.
#[tokio::test]
async fn a_replica_that_vanishes_while_it_makes_the_table_holds_up_the_others_for_a_moment() {
    let server = PostgresServer::start();
    let url = server.url();
    let proxy = Proxy::start(server.port()).await;
    let mut held = hold_the_lock(&server).await;
    let vanishes = patient().acquire_timeout(Duration::from_secs(4));
    let through_proxy = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let vanishes = tokio::spawn(async move { vanishes.migrate(&through_proxy).await });
    until_one_waits_to_make_a_table(&server).await;
    proxy.swallow();
    sqlx::raw_sql("ROLLBACK").execute(&mut held).await.unwrap();

    patient().migrate(&url).await.unwrap();
    let error = vanishes.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
}

/// The server does not answer any more, and its connection stays open.
#[tokio::test]
async fn a_server_that_falls_silent_under_a_migration_is_told() {
    let server = PostgresServer::start();
    let proxy = Proxy::start(server.port()).await;
    let _held = hold_the_lock(&server).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    let asks = PostgresStore::builder().acquire_timeout(Duration::from_secs(3));
    let asks = tokio::spawn(async move { asks.migrate(&url).await });
    until_one_waits_to_make_a_table(&server).await;
    proxy.swallow();
    let error = asks.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn what_cannot_be_written_to_is_refused() {
    let server = migrated(&[]).await;
    let standby = server.standby();
    misconfigured(patient().connect(&standby.url()).await, "name the primary");

    server.run("CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on");
    misconfigured(patient().connect(&server.url_of("reader")).await, "read-only");
    misconfigured(patient().table("mine").migrate(&standby.url()).await, "");
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_told_at_once() {
    let mut server = migrated(&[]).await;
    server.kill();
    let begun = Instant::now();
    let error = PostgresStore::connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());

    // A server that is there and says nothing.
    server.restart();
    server.pause();
    let begun = Instant::now();
    let limit = Duration::from_millis(400);
    let error = PostgresStore::builder().connect_timeout(limit).connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
    assert!(begun.elapsed() < limit + BEYOND, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_pool_of_ones_own_is_checked_as_any_other() {
    let server = PostgresServer::start();
    let pool = sqlx::PgPool::connect_lazy(&server.url()).unwrap();
    misconfigured(patient().with_pool(pool.clone()).await, "PostgresStore::migrate");
    patient().migrate(&server.url()).await.unwrap();
    let store = patient().with_pool(pool).await.unwrap();
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
}
