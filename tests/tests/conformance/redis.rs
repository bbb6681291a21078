//! The Redis store keeps every law: on one server law by law, on a Cluster all at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use idem_runtime::{
    RedisStore, StorageKey, Store,
    conformance::{Damage, Damageable, Fixture, Restartable, each_law, laws, suite},
    store::redis::RedisStoreBuilder,
};
use tests::servers::{RedisCluster, RedisServer};

suite!(one_server, OneServer::start(), damage: yes, restart: yes);

/// A server that writes every command to disk before it answers.
struct OneServer(Mutex<RedisServer>);

impl OneServer {
    fn start() -> Self {
        Self(Mutex::new(RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"])))
    }

    fn with<T>(&self, what: impl FnOnce(&mut RedisServer) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Fixture for OneServer {
    async fn store(&self) -> Arc<dyn Store> {
        let url = self.with(|server| server.url());
        Arc::new(patient().connect(&url).await.unwrap())
    }

    /// Waiting is what is asked for here: it is the server's time that passes.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[async_trait]
impl Damageable for OneServer {
    async fn damage(&self, key: StorageKey, damage: Damage) {
        let key = tests::claims::redis_key_of(key);
        self.with(|server| match damage {
            Damage::NewerFormat => server.run::<()>(&["SETRANGE", &key, "0", "\u{4}"]),
            Damage::BrokenBytes => {
                let length: usize = server.run(&["STRLEN", &key]);
                server.run::<()>(&["EVAL", CUT, "1", &key, &(length - 2).to_string()]);
            }
            Damage::Gone => server.run::<()>(&["DEL", &key]),
            other => panic!("the fixture does not know how to do this: {other}"),
        });
    }
}

#[async_trait]
impl Restartable for OneServer {
    async fn restart(&self) {
        self.with(RedisServer::restart);
    }
}

/// A busy machine fails no law.
const PATIENT: Duration = Duration::from_secs(20);

fn patient() -> RedisStoreBuilder {
    RedisStore::builder().connect_timeout(PATIENT).command_timeout(PATIENT)
}

/// Loses the record's last byte.
const CUT: &str = "return redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], 0, ARGV[1]))";

struct ACluster {
    cluster: Arc<RedisCluster>,
    /// How many replicas a step waits for. With none a key's first claim is a plain command, as it is on one server.
    replicas: u32,
}

#[async_trait]
impl Fixture for ACluster {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(patient().wait_replicas(self.replicas, PATIENT).cluster(self.cluster.seeds()).await.unwrap())
    }

    /// Waiting is what is asked for here: it is the servers' time that passes.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

macro_rules! run_all {
    (($fixture:ident, $running:ident) $($module:ident { $($law:ident)* })*) => {$($(
        let fixture = $fixture.clone();
        $running.push((stringify!($law), tokio::spawn(async move { laws::$module::$law(&*fixture).await })));
    )*)*};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_every_law_whether_replicas_are_waited_for_or_not() {
    let cluster = Arc::new(RedisCluster::start());
    for replicas in [0, 1] {
        let fixture = Arc::new(ACluster { cluster: Arc::clone(&cluster), replicas });
        let mut running = Vec::new();
        each_law!(always(run_all)(fixture, running));
        let mut broken = Vec::new();
        for (law, run) in running {
            if run.await.is_err() {
                broken.push(law);
            }
        }
        assert_eq!(broken, Vec::<&str>::new(), "with {replicas} replicas; see above for what is wrong");
    }
}
