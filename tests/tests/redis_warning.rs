//! What the store says in the log when it connects. Alone in its binary: which events are looked at is decided for all
//! threads of a process.
#![allow(clippy::unwrap_used, reason = "how a test fails")]

use std::sync::{Arc, Mutex};

use idem_runtime::RedisStore;
use tests::servers::RedisServer;

#[tokio::test]
async fn a_server_that_forgets_is_told_of() {
    let told = async |server: &RedisServer| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        RedisStore::connect(&server.url()).await.unwrap();
        let told = log.0.lock().unwrap().clone();
        String::from_utf8(told).unwrap()
    };
    let forgets = RedisServer::start();
    assert!(told(&forgets).await.contains("a restart forgets"));
    let remembers = RedisServer::with(&["--appendonly", "yes"]);
    assert_eq!(told(&remembers).await, "");
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
