//! What the store and the cache say in the log. In a binary of their own: which events are looked at is decided for all
//! threads of a process.
#![allow(clippy::unwrap_used, reason = "how a test fails")]

use std::sync::{Arc, Mutex};

use idem_runtime::{RedisStore, SqliteStore, Store, TieredStore, store::redis::RedisCache};
use tests::{
    claims::{claim, complete, key, win},
    servers::RedisServer,
};

#[tokio::test]
async fn a_server_that_forgets_is_told_of() {
    let told = async |server: &RedisServer| {
        let (log, _guard) = Log::start();
        RedisStore::connect(&server.url()).await.unwrap();
        log.text()
    };
    let forgets = RedisServer::start();
    assert!(told(&forgets).await.contains("a restart forgets"));
    let remembers = RedisServer::with(&["--appendonly", "yes"]);
    assert_eq!(told(&remembers).await, "");
}

#[tokio::test]
async fn a_cache_that_refuses_copies_or_to_be_read_is_told_of_once() {
    let rights = |rights: &str| format!("on >hunter2 ~idem-copy:* +@connection {rights}");
    let replica: &[&str] = &["--replicaof", "127.0.0.1 1"];
    for (arguments, rights, what, cause) in [
        (&[][..], rights("+get +set"), "refuses copies", "'time'"),
        (&[], rights("+get +time"), "refuses copies", "'set'"),
        (&[], rights("+set +time"), "refuses to be read", "'get'"),
        (&["--maxmemory", "1"], rights("+get +set +time"), "refuses copies", "`OOM "),
        (replica, rights("+get +set +time"), "refuses copies", "`READONLY "),
    ] {
        let redis = RedisServer::with(arguments);
        let user: Vec<_> = ["ACL", "SETUSER", "app"].into_iter().chain(rights.split(' ')).collect();
        redis.run::<()>(&user);
        let cache = RedisCache::server(&format!("redis://app:hunter2@127.0.0.1:{}", redis.port())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = TieredStore::new(SqliteStore::open(directory.path().join("records.db")).await.unwrap(), cache);

        let (log, _guard) = Log::start();
        let complete = async |at| {
            win(&store, claim(at, 1)).await;
            _ = store.complete(&complete(at, 1, "hunter2")).await.unwrap();
            store.flush().await;
        };
        for at in 1..4 {
            complete(at).await;
        }
        let told = log.text();
        assert_eq!(told.matches(" WARN ").count(), 1, "{told}");
        assert!(told.contains(&format!("redis {what}, replays come from the authority: ")), "{told}");
        assert!(told.contains(cause) && told.contains(&format!("place=\"127.0.0.1:{}\"", redis.port())), "{told}");
        let keys: String = key(1).as_bytes()[4..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!told.contains("hunter2") && !told.contains(&keys), "{told}");

        if what == "refuses copies" && arguments.is_empty() {
            redis.run::<()>(&["ACL", "SETUSER", "app", "+set", "+time"]);
            complete(4).await;
            complete(5).await;
            assert_eq!(log.text().matches("redis takes copies again").count(), 1, "{}", log.text());
        }
    }
}

/// As after a move to copies in the same Redis: what lies there may be in flight at a replica of the version before.
#[tokio::test]
async fn a_cache_under_the_prefix_of_a_store_is_told_of_once() {
    let redis = RedisServer::start();
    let before = RedisStore::connect(&redis.url()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let authority = SqliteStore::open(directory.path().join("records.db")).await.unwrap();
    let cache = RedisCache::builder().prefix("idem").server(&redis.url()).unwrap();
    let store = TieredStore::new(authority, cache);

    let (log, _guard) = Log::start();
    for at in 1..4 {
        win(&before, claim(at, 1)).await;
        win(&store, claim(at, 1)).await;
        _ = store.complete(&complete(at, 1, "hunter2")).await.unwrap();
        store.flush().await;
    }
    let told = log.text();
    assert_eq!(told.matches(" WARN ").count(), 1, "{told}");
    assert!(told.contains("`prefix`") && told.contains("prefix=\"idem\""), "{told}");
    assert!(told.contains(&format!("place=\"127.0.0.1:{}\"", redis.port())), "{told}");
    let keys: String = key(1).as_bytes()[4..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!told.contains("hunter2") && !told.contains(&keys), "{told}");
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// A log of what this thread says until the guard is dropped.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
