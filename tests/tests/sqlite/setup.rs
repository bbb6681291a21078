//! How the store opens, and what it refuses when it does.

use std::{fs, process::Command};

use futures_util::future::join_all;
use idem_runtime::{SqliteStore, store::StoreErrorKind::*};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use tests::claims::*;

use crate::{Place, SOON, refused};

#[tokio::test]
async fn a_missing_file_is_made_and_found_again() {
    let place = Place::new();
    let won = win(&place.open().await, claim(1, 1)).await;
    assert_eq!(win(&place.open().await, claim(1, 1)).await, won, "asked again, by the same token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_file_at_once() {
    let place = Place::new();
    let stores = join_all((0..8).map(|_| place.open())).await;
    for (at, store) in (0..).zip(&stores) {
        win(store, claim(at, 1)).await;
    }
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_refused() {
    let place = Place::new();
    let directory = place.directory.path();
    fs::write(directory.join("text"), "not a database, and long enough to be one. ".repeat(100)).unwrap();
    fs::write(directory.join("file"), "").unwrap();
    for (path, says) in [
        (directory.join("missing/records.db"), "missing` is not a directory: create it"),
        (directory.join("file/records.db"), "file` is not a directory"),
        (directory.to_owned(), "is a directory: name a file in it"),
        (directory.join("text"), "not a SQLite database"),
        (":memory:".into(), "take `MemoryStore`"),
        ("".into(), "take `MemoryStore`"),
        ("sqlite://records.db".into(), "not a URL: write `records.db`"),
    ] {
        let said = refused(SqliteStore::open(&path).await, Misconfigured);
        assert!(said.contains(says), "{said}");
    }
    let said = refused(place.options().lock_timeout(std::time::Duration::ZERO).open(place.file()).await, Misconfigured);
    assert!(said.contains("`lock_timeout`"), "{said}");
}

#[tokio::test]
async fn tables_of_another_version_are_refused() {
    for (change, says) in [
        ("UPDATE idem_schema SET version = 2", "of version 2, this program knows 1"),
        ("DELETE FROM idem_schema", "`idem_schema`"),
        ("ALTER TABLE idem_records RENAME COLUMN until TO lease_end", "not those of the store"),
        ("DROP TABLE idem_records", "not those of the store"),
    ] {
        let place = Place::new();
        sqlx::query(change).execute(place.open().await.pool()).await.unwrap();
        let said = refused(SqliteStore::open(place.file()).await, Misconfigured);
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_to_is_refused() {
    let place = Place::new();
    place.open().await.pool().close().await;
    let options = SqliteConnectOptions::new().filename(place.file()).read_only(true);
    let said =
        refused(SqliteStore::with_pool(SqlitePoolOptions::new().connect_lazy_with(options)).await, Misconfigured);
    assert!(said.contains("cannot be written to"), "{said}");
}

/// Nobody may write to a directory of root's, and nobody to a file of root's in a directory of theirs.
#[tokio::test]
#[cfg(unix)]
async fn what_may_not_be_written_to_is_refused() {
    use std::os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    };
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (there, says) in [(false, "the file cannot be opened"), (true, "cannot be written to")] {
        let place = Place::new();
        let directory = place.directory.path();
        // Root may do everything, so that its child is somebody else.
        let root = fs::metadata(directory).unwrap().uid() == 0;
        if there {
            let store = place.open().await;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(store.pool()).await.unwrap();
            mode(&place.file(), 0o444);
        }
        mode(directory, if there { 0o777 } else { 0o555 });
        let program = directory.with_extension("replica");
        fs::copy(env!("CARGO_BIN_EXE_replica"), &program).unwrap();
        mode(&program, 0o755);
        let mut command = Command::new(&program);
        command.arg(format!("sqlite:{}", place.file().display()));
        if root {
            command.uid(NOBODY);
            if there {
                chown(directory, Some(NOBODY), None).unwrap();
            }
        }
        let ended = command.output().unwrap();
        fs::remove_file(&program).unwrap();
        mode(directory, 0o777);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains("Misconfigured") && said.contains(says), "{said}");
    }
}

#[cfg(unix)]
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_file_that_somebody_has_locked_is_told() {
    let place = Place::new();
    let holder = place.open().await;
    let _held = holder.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let said = refused(place.options().lock_timeout(SOON).open(place.file()).await, Unreachable);
    assert!(said.contains("`lock_timeout`"), "{said}");
}

#[tokio::test]
async fn a_pool_of_the_service_has_tables_of_both() {
    let place = Place::new();
    let pool = place.pool(5);
    let said = refused(SqliteStore::with_pool(pool.clone()).await, Misconfigured);
    assert!(said.contains("`SqliteStore::migrate`"), "{said}");
    sqlx::query("CREATE TABLE ledger (amount INTEGER)").execute(&pool).await.unwrap();
    for _ in 0..2 {
        SqliteStore::migrate(&pool).await.unwrap();
        let store = SqliteStore::with_pool(pool.clone()).await.unwrap();
        win(&store, claim(1, 1)).await;
        sqlx::query("INSERT INTO ledger VALUES (1)").execute(store.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn the_schema_can_be_run_by_hand() {
    let place = Place::new();
    let pool = place.pool(1);
    sqlx::raw_sql(SqliteStore::SCHEMA).execute(&pool).await.unwrap();
    let store = SqliteStore::with_pool(pool).await.unwrap();
    win(&store, claim(1, 1)).await;
    win(&place.open().await, claim(2, 1)).await;
}

#[tokio::test]
async fn a_pool_that_could_not_keep_it_is_refused() {
    let place = Place::new();
    let options = SqliteConnectOptions::new().filename(place.file()).create_if_missing(true);
    let rolling = SqlitePoolOptions::new().connect_lazy_with(options.journal_mode(SqliteJournalMode::Delete));
    let memory =
        SqlitePoolOptions::new().max_connections(1).connect_lazy_with(SqliteConnectOptions::new().in_memory(true));
    for (pool, says) in [(rolling, "`journal_mode(SqliteJournalMode::Wal)`"), (memory, "a database in memory")] {
        SqliteStore::migrate(&pool).await.unwrap();
        let said = refused(SqliteStore::with_pool(pool).await, Misconfigured);
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn debug_shows_the_file_and_nothing_else() {
    let place = Place::new();
    let store = place.open().await;
    let shown = format!("{store:?}");
    assert_eq!(shown, format!("SqliteStore {{ path: {:?}, .. }}", place.file()));
}
