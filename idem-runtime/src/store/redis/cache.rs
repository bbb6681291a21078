//! Values that may be lost at any time, and whose loss is never an error.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use redis::{RedisWrite, Value};
use tokio::time::Instant;

use super::{
    builder::RedisStoreBuilder,
    cluster::Cluster,
    fault::{Cause, Fault},
    link::Target,
    record,
    route::Route,
    script::Step,
};
use crate::{
    clock::micros,
    key::StorageKey,
    store::{StoreError, StoreErrorKind},
};

/// A Redis or Valkey that keeps copies for a [`TieredStore`](crate::store::TieredStore). Cheap to clone: clones share the
/// connections.
///
/// It connects when it is first asked. Whatever it does, refuse, fall silent, evict, restart empty, is a copy that is not
/// there. After three requests in a row that it did not answer, it is left alone for a second.
#[derive(Clone)]
pub struct RedisCache(Arc<Shared>);

/// The options of a [`RedisCache`].
///
/// ```
/// # fn example() -> Result<(), idem_runtime::store::StoreError> {
/// use std::time::Duration;
/// use idem_runtime::store::redis::RedisCache;
///
/// let cache = RedisCache::builder().prefix("shop:copy").timeout(Duration::from_millis(10)).server("redis://10.0.0.1")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options connect to nothing"]
pub struct RedisCacheBuilder(RedisStoreBuilder);

struct Shared {
    route: Route,
    prefix: Box<str>,
    timeout: Duration,
    circuit: Mutex<Circuit>,
}

/// Keeps a server that does not answer from costing every request its time-out.
#[derive(Debug, Default)]
struct Circuit {
    /// How many requests in a row were not answered.
    faults: u32,
    /// Until when nobody asks.
    rests_until: Option<Instant>,
}

/// So many requests in a row without an answer, and nobody asks for [`REST`].
const FAULTS: u32 = 3;
const REST: Duration = Duration::from_secs(1);

/// How long a copy may take to be written: nobody waits for it.
const WRITE: Duration = Duration::from_millis(500);

/// How much sooner a copy ends than what it is a copy of: a second, and a thousandth of the time, for clocks that run
/// apart. What is kept for less is not copied.
fn margin(left: Duration) -> Duration {
    Duration::from_secs(1) + left / 1000
}

impl RedisCache {
    /// One server: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS, `redis+unix:///PATH` for a
    /// socket file.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the URL.
    pub fn server(url: &str) -> Result<Self, StoreError> {
        Self::builder().server(url)
    }

    /// A Cluster, of which some nodes are named.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: a URL, or none.
    pub fn cluster<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, StoreError> {
        Self::builder().cluster(urls)
    }

    /// The master of this name, by the word of these Sentinels.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: a URL, or none.
    pub fn sentinel<U: AsRef<str>>(urls: impl IntoIterator<Item = U>, master_name: &str) -> Result<Self, StoreError> {
        Self::builder().sentinel(urls, master_name)
    }

    /// The options, before one of them is chosen.
    pub fn builder() -> RedisCacheBuilder {
        let builder = RedisStoreBuilder::new().prefix("idem-copy").command_timeout(Duration::from_millis(30));
        RedisCacheBuilder(builder)
    }

    /// What lies under the key of `key`, if it is told within the time-out.
    pub(in crate::store) async fn get(&self, key: &StorageKey) -> Option<Bytes> {
        match self.ask(&Step::read(&self.0.prefix, key), self.0.timeout).await? {
            Value::BulkString(value) => Some(Bytes::from(value)),
            _ => None,
        }
    }

    /// Keeps a value for what is `left`, counted from `read`, when it was read there.
    ///
    /// The end is a time of the server's own clock: told as a duration, it would begin when the server comes to read the
    /// command, which one that stood still does late.
    pub(in crate::store) async fn put(&self, key: &StorageKey, value: &[u8], read: Instant, left: Duration) {
        let Some(left) = left.checked_sub(margin(left)) else { return };
        let Some(clock) = self.ask(&Step::plain(key, redis::cmd("TIME")), WRITE).await else { return };
        let Ok((seconds, rest)) = redis::from_redis_value::<(u64, u64)>(clock) else { return };
        // The clock was read before now, so at `read` it was at least this much earlier.
        let Some(left) = left.checked_sub(read.elapsed()) else { return };
        let end = seconds.saturating_mul(1_000_000).saturating_add(rest).saturating_add(micros(left)) / 1000;
        let mut command = redis::cmd("SET");
        record::put_key(&mut command.bufmut_for_next_arg(record::key_length(&self.0.prefix)), &self.0.prefix, key);
        command.arg(value).arg("PXAT").arg(end);
        self.ask(&Step::plain(key, command), WRITE).await;
    }

    /// Whether it is left alone at the moment.
    pub(in crate::store) fn rests(&self) -> bool {
        self.0.circuit().rests_until.is_some_and(|until| Instant::now() < until)
    }

    async fn ask(&self, step: &Step, limit: Duration) -> Option<Value> {
        if !self.0.may_ask() {
            return None;
        }
        let reply = self.0.route.ask(step, Instant::now() + limit).await;
        let is_answered = !matches!(reply, Err(Fault::Silent | Fault::Unreachable(_) | Fault::Broken(_)));
        self.0.asked(is_answered);
        reply.ok().map(|reply| reply.value)
    }
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One at a time asks again after a rest.
    fn may_ask(&self) -> bool {
        let mut circuit = self.circuit();
        match circuit.rests_until {
            None => true,
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                circuit.rests_until = Some(Instant::now() + REST);
                true
            }
        }
    }

    fn asked(&self, is_answered: bool) {
        let mut circuit = self.circuit();
        if is_answered {
            if circuit.rests_until.is_some() {
                tracing::info!("redis answers again: replays come from its copies");
            }
            *circuit = Circuit::default();
            return;
        }
        circuit.faults = circuit.faults.saturating_add(1);
        if circuit.faults >= FAULTS {
            if circuit.rests_until.is_none() {
                tracing::warn!("redis does not answer: replays come from the authority");
            }
            circuit.rests_until = Some(Instant::now() + REST);
        }
    }
}

/// Shows servers by address, never a URL.
impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { route, prefix, timeout, .. } = &*self.0;
        f.debug_struct("RedisCache").field("route", route).field("prefix", prefix).field("timeout", timeout).finish()
    }
}

impl RedisCacheBuilder {
    /// What every key begins with: `PREFIX:{HEX}`. Default `idem-copy`. Not that of a [`RedisStore`](super::RedisStore).
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self(self.0.prefix(prefix))
    }

    /// How long a request waits for a copy, and so what a Redis that does not answer costs it. Default 30 ms.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.command_timeout(timeout))
    }

    /// How long opening a connection may take. Default 1 s. Requests do not wait for it longer than their time-out.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self(self.0.connect_timeout(timeout))
    }

    /// How one logs in to the servers behind Sentinels, whose own login is in their URLs. An empty user is the default one.
    pub fn login(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self(self.0.login(user, password))
    }

    /// The only certificate authorities, as PEM, that `rediss://` trusts. Default: those of the TLS library.
    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))))]
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        Self(self.0.root_certificates(pem))
    }

    /// The certificate and the key, as PEM, that `rediss://` shows to the server.
    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))))]
    pub fn client_certificate(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self(self.0.client_certificate(certificate, key))
    }

    /// As [`RedisCache::server`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn server(self, url: &str) -> Result<RedisCache, StoreError> {
        let route = self.0.parse(url).map(|info| Route::Server(self.0.node(|| Target::Server(info.clone()))));
        self.finish(route)
    }

    /// As [`RedisCache::cluster`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cluster<U: AsRef<str>>(self, urls: impl IntoIterator<Item = U>) -> Result<RedisCache, StoreError> {
        let seeds = self.0.parse_all(urls);
        let cluster = seeds.and_then(|seeds| Cluster::new(seeds, self.0.cluster_options()));
        self.finish(cluster.map(Route::Cluster))
    }

    /// As [`RedisCache::sentinel`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn sentinel<U: AsRef<str>>(
        self,
        urls: impl IntoIterator<Item = U>,
        master_name: &str,
    ) -> Result<RedisCache, StoreError> {
        let servers = self.0.parse_all(urls);
        let master = servers.and_then(|servers| self.0.master(servers, master_name));
        self.finish(master.map(|master| Route::Master(Arc::new(master))))
    }

    fn finish(self, route: Result<Route, Cause>) -> Result<RedisCache, StoreError> {
        let route = self
            .0
            .validate()
            .and(route)
            .map_err(|cause| StoreError::new(StoreErrorKind::Misconfigured, cause.context.to_string()))?;
        let RedisStoreBuilder { prefix, command_timeout, .. } = self.0;
        let circuit = Mutex::default();
        Ok(RedisCache(Arc::new(Shared { route, prefix: prefix.into(), timeout: command_timeout, circuit })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_left_alone_and_tried_by_one() {
        let cache = RedisCache::server("redis://127.0.0.1:1").expect("a URL");
        for _ in 0..FAULTS {
            assert!(cache.0.may_ask() && !cache.rests());
            cache.0.asked(false);
        }
        assert!(cache.rests() && !cache.0.may_ask());
        tokio::time::advance(REST).await;
        assert!(cache.0.may_ask(), "one tries");
        assert!(!cache.0.may_ask(), "the others do not");
        cache.0.asked(false);
        assert!(!cache.0.may_ask(), "and it failed");
        tokio::time::advance(REST).await;
        assert!(cache.0.may_ask());
        cache.0.asked(true);
        assert!(cache.0.may_ask() && cache.0.may_ask() && !cache.rests());
    }

    #[test]
    fn a_copy_ends_first() {
        assert_eq!(margin(Duration::from_secs(86_400)), Duration::from_millis(87_400));
        assert!(Duration::from_secs(1).checked_sub(margin(Duration::from_secs(1))).is_none(), "too short to copy");
    }
}
