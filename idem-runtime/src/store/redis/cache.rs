//! Values that may be lost at any time, and whose loss is never an error.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use redis::{Cmd, ConnectionInfo, RedisWrite, Value};
use tokio::time::Instant;

use super::{
    builder::RedisStoreBuilder,
    cluster::Cluster,
    fault::{Cause, Fault},
    link::Target,
    node::Reply,
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
/// there. After three requests in a row that it did not answer, it is left alone for a second. One that refuses copies, or to be
/// read, is asked on, and told of in a warning.
///
/// It believes what it reads: who may write to this Redis says what is replayed, as with a [`RedisStore`](super::RedisStore).
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
    /// Where the servers are, as the URLs say.
    place: Box<str>,
    prefix: Box<str>,
    timeout: Duration,
    circuit: Mutex<Circuit>,
    reads: Mutex<Refusals>,
    writes: Mutex<Refusals>,
    /// Of copies, by records of a store that lie in their places.
    places: Mutex<Refusals>,
}

/// Keeps a server that does not answer from costing every request its time-out.
#[derive(Debug, Default)]
struct Circuit {
    /// How many requests in a row were not answered.
    faults: u32,
    /// Until when nobody asks.
    rests_until: Option<Instant>,
}

/// Keeps a server that refuses what is asked from being a miss for ever that nobody hears of.
#[derive(Debug, Default)]
struct Refusals {
    /// Of those since it last granted something.
    is_told: bool,
    told_at: Option<Instant>,
}

/// One that grants this and refuses that, as at its memory limit, is not told of more often.
const QUIET: Duration = Duration::from_secs(60);

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
        let builder =
            RedisStoreBuilder::new().prefix("idem-copy").command_timeout(Duration::from_millis(30)).allow_eviction();
        RedisCacheBuilder(builder)
    }

    /// What lies under the key of `key`, if it is told within the time-out.
    pub(in crate::store) async fn get(&self, key: &StorageKey) -> Option<Bytes> {
        match self.ask(&Step::read(&self.0.prefix, key), self.0.timeout, true).await? {
            Value::BulkString(value) => Some(Bytes::from(value)),
            _ => None,
        }
    }

    /// The time of the server that has the copy of `key`, in microseconds.
    pub(in crate::store) async fn clock(&self, key: &StorageKey) -> Option<u64> {
        let clock = self.ask(&Step::plain(key, redis::cmd("TIME")), WRITE, false).await?;
        let (seconds, rest) = redis::from_redis_value::<(u64, u64)>(clock).ok()?;
        Some(seconds.saturating_mul(1_000_000).saturating_add(rest))
    }

    /// Keeps a value for what is `left`, counted from `clock`, before which it was not read, unless something lies there. `None`: nobody
    /// knows; `false`: something does.
    ///
    /// The end is a time of the server's own clock: told as a duration, it would begin when the server comes to read the
    /// command, which one that stood still does late. No clock of ours is asked, which may stand still too.
    pub(in crate::store) async fn put(
        &self,
        key: &StorageKey,
        value: &[u8],
        clock: u64,
        left: Duration,
    ) -> Option<bool> {
        let left = left.checked_sub(margin(left))?;
        let end = clock.saturating_add(micros(left)) / 1000;
        let mut command = self.set(key, value);
        command.arg("PXAT").arg(end).arg("NX");
        let reply = self.ask(&Step::plain(key, command), WRITE, false).await?;
        if locked(&self.0.writes).granted() {
            tracing::info!(place = &*self.0.place, "redis takes copies again");
        }
        let is_written = reply != Value::Nil;
        if is_written {
            locked(&self.0.places).granted();
        }
        Some(is_written)
    }

    /// As [`get`](Self::get), for somebody who has more time.
    pub(in crate::store) async fn look(&self, key: &StorageKey) -> Option<Bytes> {
        match self.ask(&Step::read(&self.0.prefix, key), WRITE, false).await? {
            Value::BulkString(value) => Some(Bytes::from(value)),
            _ => None,
        }
    }

    /// Deletes what was seen there, unless something else lies there by now; `false`: perhaps not.
    ///
    /// Not a record of a store, which another version of the service may have: deleted, its operation would run again there.
    pub(in crate::store) async fn clear(&self, key: &StorageKey, seen: &[u8]) -> bool {
        if record::is_record(seen) {
            if locked(&self.0.places).refused(Instant::now()) {
                let Shared { place, prefix, .. } = &*self.0;
                tracing::warn!(
                    place,
                    prefix,
                    "records of a `RedisStore` lie where copies would, and stay there without any: give the `RedisCache` \
                     another `prefix`"
                );
            }
            return false;
        }
        matches!(self.ask(&Step::clear(&self.0.prefix, key, seen), WRITE, false).await, Some(Value::Int(1)))
    }

    /// Puts a value there that must be there, whatever lies there now but a record of a store. Asks a server that is left alone as well.
    pub(in crate::store) async fn mark(
        &self,
        key: &StorageKey,
        value: &[u8],
        lasts: Duration,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + WRITE;
        let failed = |fault: Fault| fault.into_error("forget, whose copy may still be there: ask again");
        match self.0.route.ask(&Step::read(&self.0.prefix, key), deadline).await {
            Ok(Reply { value: Value::BulkString(found), .. }) if record::is_record(&found) => {
                return Err(StoreError::new(
                    StoreErrorKind::Misconfigured,
                    "forget: a record of a `RedisStore` lies where the copy would: give the `RedisCache` another `prefix`",
                ));
            }
            Err(fault) if !fault.is("WRONGTYPE") => return Err(failed(fault)),
            Ok(_) | Err(_) => {}
        }
        let mut command = self.set(key, value);
        command.arg("PX").arg(micros(lasts) / 1000);
        self.0.route.ask(&Step::plain(key, command), deadline).await.map_err(failed)?;
        Ok(())
    }

    fn set(&self, key: &StorageKey, value: &[u8]) -> Cmd {
        let mut command = redis::cmd("SET");
        record::put_key(&mut command.bufmut_for_next_arg(record::key_length(&self.0.prefix)), &self.0.prefix, key);
        command.arg(value);
        command
    }

    /// Whether it is left alone at the moment.
    pub(in crate::store) fn rests(&self) -> bool {
        self.0.circuit().rests(Instant::now())
    }

    /// `waits`: a request waits for it. What may take longer says nothing of whether a request is answered in time.
    async fn ask(&self, step: &Step, limit: Duration, waits: bool) -> Option<Value> {
        if !self.0.circuit().may_ask(Instant::now()) {
            return None;
        }
        let reply = self.0.route.ask(step, Instant::now() + limit).await;
        let is_answered = !matches!(reply, Err(Fault::Silent | Fault::Unreachable(_) | Fault::Broken(_)));
        let is_given_up = self.0.circuit().asked(is_answered, waits, Instant::now());
        let place = &*self.0.place;
        match reply {
            Ok(reply) => {
                // That its clock may be read says nothing of copies.
                if waits && locked(&self.0.reads).granted() {
                    tracing::info!(place, "redis may be read again");
                }
                Some(reply.value)
            }
            Err(fault) => {
                let (refusals, refuses) =
                    if waits { (&self.0.reads, "refuses to be read") } else { (&self.0.writes, "refuses copies") };
                let what = match is_answered {
                    true => locked(refusals).refused(Instant::now()).then_some(refuses),
                    false => is_given_up.then_some("does not answer"),
                };
                if let Some(what) = what {
                    let cause = fault.into_cause().context;
                    tracing::warn!(place, "redis {what}, replays come from the authority: {cause}");
                }
                None
            }
        }
    }
}

impl Shared {
    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        locked(&self.circuit)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Circuit {
    /// One at a time asks again after a rest.
    fn may_ask(&mut self, now: Instant) -> bool {
        match self.rests_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.rests_until = Some(now + REST);
                true
            }
        }
    }

    /// Whether this was the one after which it is left alone, and was not before.
    fn asked(&mut self, is_answered: bool, waits: bool, now: Instant) -> bool {
        if is_answered {
            if !waits {
                return false;
            }
            if self.rests_until.is_some() {
                tracing::info!("redis answers again: replays come from its copies");
            }
            *self = Self::default();
            return false;
        }
        self.faults = self.faults.saturating_add(1);
        if self.faults < FAULTS {
            return false;
        }
        self.rests_until.replace(now + REST).is_none()
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

impl Refusals {
    /// Whether this one is to be told.
    fn refused(&mut self, now: Instant) -> bool {
        if self.is_told || self.told_at.is_some_and(|told| now < told + QUIET) {
            return false;
        }
        (self.is_told, self.told_at) = (true, Some(now));
        true
    }

    /// Whether this ends what was told.
    fn granted(&mut self) -> bool {
        std::mem::take(&mut self.is_told)
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
    /// What every key begins with: `PREFIX:{HEX}`. Default `idem-copy`. Not that of a [`RedisStore`](super::RedisStore), whose records
    /// stay where they lie and leave no place for copies (a warning says so), and for each database behind it another one: two that
    /// share a prefix replay each other's answers.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self(self.0.prefix(prefix))
    }

    /// How long a request waits for a copy, and so what a Redis that does not answer costs it. Default 30 ms; at least
    /// 1 ms, at most an hour.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.command_timeout(timeout))
    }

    /// How long opening a connection may take. Default 1 s; at least 1 ms, at most an hour. Requests do not wait for it
    /// longer than their time-out.
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
        let info = self.0.parse(url);
        let route = info
            .map(|info| (place(std::slice::from_ref(&info)), Route::Server(self.0.node(Target::Server(info.into())))));
        self.finish(route)
    }

    /// As [`RedisCache::cluster`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cluster<U: AsRef<str>>(self, urls: impl IntoIterator<Item = U>) -> Result<RedisCache, StoreError> {
        let seeds = self.0.parse_all(urls);
        let cluster = seeds.and_then(|seeds| {
            let place = place(&seeds);
            Ok((place, Route::Cluster(Cluster::new(seeds, self.0.options())?)))
        });
        self.finish(cluster)
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
        let master = servers.and_then(|servers| {
            let place = place(&servers);
            Ok((place, Route::Master(Arc::new(self.0.master(servers, master_name)?))))
        });
        self.finish(master)
    }

    fn finish(self, route: Result<(Box<str>, Route), Cause>) -> Result<RedisCache, StoreError> {
        let (place, route) = self
            .0
            .validate_as("timeout", "millis(30)")
            .and(route)
            .map_err(|cause| StoreError::new(StoreErrorKind::Misconfigured, cause.context.to_string()))?;
        let RedisStoreBuilder { prefix, command_timeout, .. } = self.0;
        let (circuit, reads, writes, places) = <(Mutex<_>, Mutex<_>, Mutex<_>, Mutex<_>)>::default();
        let (prefix, timeout) = (prefix.into(), command_timeout);
        Ok(RedisCache(Arc::new(Shared { route, place, prefix, timeout, circuit, reads, writes, places })))
    }
}

/// Addresses alone: nothing of a login.
fn place(servers: &[ConnectionInfo]) -> Box<str> {
    servers.iter().map(|server| server.addr().to_string()).collect::<Vec<_>>().join(", ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_is_left_alone_and_tried_by_one() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        for fault in 1..=FAULTS {
            assert!(circuit.may_ask(now) && !circuit.rests(now));
            assert_eq!(circuit.asked(false, true, now), fault == FAULTS, "it is said once");
        }
        assert!(circuit.rests(now) && !circuit.may_ask(now));
        now += REST;
        assert!(circuit.may_ask(now), "one tries");
        assert!(!circuit.may_ask(now), "the others do not");
        assert!(!circuit.asked(false, true, now), "and not again");
        assert!(!circuit.may_ask(now), "and it failed");
        now += REST;
        assert!(circuit.may_ask(now));
        circuit.asked(true, true, now);
        assert!(circuit.may_ask(now) && circuit.may_ask(now) && !circuit.rests(now));
    }

    /// Copies are written with more patience than requests have.
    #[test]
    fn a_server_too_slow_for_requests_is_left_alone_although_it_takes_copies() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..FAULTS {
            assert!(circuit.may_ask(now));
            circuit.asked(false, true, now);
            circuit.asked(true, false, now);
        }
        assert!(circuit.rests(now));
        circuit.asked(true, true, now);
        assert!(!circuit.rests(now));
    }

    #[test]
    fn refusals_are_told_once_in_a_row_and_at_most_once_a_minute() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        assert!(!refusals.granted(), "there were none");
        assert!(refusals.refused(now));
        now += 2 * QUIET;
        assert!(!refusals.refused(now), "these were told");
        assert!(refusals.granted() && !refusals.granted(), "what was told is over, once");
        assert!(refusals.refused(now), "others");
        assert!(refusals.granted());
        assert!(!refusals.refused(now), "too soon");
        assert!(!refusals.granted(), "nobody heard of them");
        refusals.refused(now);
        now += QUIET;
        assert!(refusals.refused(now), "they last");
    }

    #[test]
    fn a_copy_ends_first() {
        assert_eq!(margin(Duration::from_secs(86_400)), Duration::from_millis(87_400));
        assert!(Duration::from_secs(1).checked_sub(margin(Duration::from_secs(1))).is_none(), "too short to copy");
    }
}
