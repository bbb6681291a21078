//! The options of the store, and how it connects.

use std::{fmt, sync::Arc, time::Duration};

use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use tokio::time::Instant;

use super::{
    ConnectionProvider, Inner, RedisStore,
    check::{self, Allowed},
    cluster::Cluster,
    fault::{Cause, Fault},
    link::Target,
    node::{self, Node},
    recent::Recent,
    record,
    replicas::Quorum,
    route::{self, Route},
    script::Step,
    sentinel::Sentinels,
};
use crate::store::StoreError;

/// The options of a [`RedisStore`].
///
/// ```no_run
/// # async fn example() -> Result<(), idem_runtime::store::StoreError> {
/// use std::time::Duration;
/// use idem_runtime::RedisStore;
///
/// let store = RedisStore::builder()
///     .prefix("shop:idem")
///     .command_timeout(Duration::from_millis(200))
///     .wait_replicas(1, Duration::from_millis(100))
///     .cluster(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options connect to nothing"]
pub struct RedisStoreBuilder {
    pub(super) prefix: String,
    pub(super) command_timeout: Duration,
    connect_timeout: Duration,
    allow_eviction: bool,
    quorum: Option<Quorum>,
    login: Option<(String, String)>,
    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    certificates: redis::TlsCertificates,
}

impl RedisStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            prefix: "idem".to_owned(),
            command_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            allow_eviction: false,
            quorum: None,
            login: None,
            #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
            certificates: redis::TlsCertificates { client_tls: None, root_cert: None },
        }
    }

    /// What every key begins with: `PREFIX:{HEX}`. Default `idem`. Without braces: those mark what a Cluster hashes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long one step may take, a new connection and a second attempt included. Default 500 ms; at least 1 ms, at
    /// most an hour. A connection over which a command waits in vain for half of it or more, and nothing else is heard, is
    /// replaced.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// How long opening a connection may take, name resolution, TLS and login included. Default 1 s; at least 1 ms, at
    /// most an hour. Requests do not wait for it longer than their command time-out.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Accepts a server that evicts records at its memory limit. An evicted operation runs a second time.
    ///
    /// Without this such a server is refused when the store connects. One that takes over later, as a replica that is
    /// made master does, is given no claims for as long as it evicts, which are
    /// [`Misconfigured`](crate::store::StoreErrorKind::Misconfigured); operations in flight are completed there all the
    /// same.
    pub fn allow_eviction(mut self) -> Self {
        self.allow_eviction = true;
        self
    }

    /// Makes every won claim and every completion wait until so many replicas have it: a replica that takes over then
    /// knows it. Costs a round trip to the replicas; with fewer replicas than asked for nothing runs at all.
    ///
    /// A step may take this time-out, at least 1 ms and at most an hour, on top of [`command_timeout`](Self::command_timeout).
    pub fn wait_replicas(mut self, replicas: u32, timeout: Duration) -> Self {
        self.quorum = (replicas > 0).then_some(Quorum { replicas, timeout });
        self
    }

    /// How one logs in to the servers behind Sentinels, whose own login is in their URLs. An empty user is the default one.
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    /// The only certificate authorities, as PEM, that `rediss://` trusts. Default: those of the TLS library.
    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))))]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.root_cert = Some(pem.into());
        self
    }

    /// The certificate and the key, as PEM, that `rediss://` shows to the server.
    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))))]
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let identity = redis::ClientTlsConfig { client_cert: certificate.into(), client_key: key.into() };
        self.certificates.client_tls = Some(identity);
        self
    }

    /// As [`RedisStore::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect(self, url: &str) -> Result<RedisStore, StoreError> {
        self.try_connect(url).await.map_err(Cause::into_error)
    }

    /// As [`RedisStore::cluster`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn cluster<U: AsRef<str>>(self, urls: impl IntoIterator<Item = U>) -> Result<RedisStore, StoreError> {
        let seeds = self.parse_all(urls).map_err(Cause::into_error)?;
        self.try_cluster(seeds).await.map_err(Cause::into_error)
    }

    /// As [`RedisStore::sentinel`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn sentinel<U: AsRef<str>>(
        self,
        urls: impl IntoIterator<Item = U>,
        master_name: &str,
    ) -> Result<RedisStore, StoreError> {
        let sentinels = self.parse_all(urls).map_err(Cause::into_error)?;
        self.try_sentinel(sentinels, master_name).await.map_err(Cause::into_error)
    }

    /// A store over connections of one's own. The server is checked as for any other, but none that takes over from it
    /// later; `wait_replicas` needs connections of the store's own and is refused.
    ///
    /// # Errors
    ///
    /// As [`RedisStore::connect`].
    pub async fn provider(self, provider: impl ConnectionProvider) -> Result<RedisStore, StoreError> {
        self.try_provider(Box::new(provider)).await.map_err(Cause::into_error)
    }

    async fn try_connect(self, url: &str) -> Result<RedisStore, Cause> {
        self.validate()?;
        let info = self.parse(url)?;
        let name = info.addr().to_string();
        let node = self.node(Target::Server(info.into()));
        self.check(&name, &node, None).await?;
        self.finish(Route::Server(node))
    }

    async fn try_cluster(self, seeds: Vec<ConnectionInfo>) -> Result<RedisStore, Cause> {
        self.validate()?;
        let cluster = Cluster::connect(seeds, self.options()).await?;
        for (name, node) in cluster.masters() {
            self.check(&name, &node, Some(&cluster)).await?;
        }
        self.finish(Route::Cluster(cluster))
    }

    async fn try_sentinel(self, servers: Vec<ConnectionInfo>, master_name: &str) -> Result<RedisStore, Cause> {
        self.validate()?;
        let node = self.master(servers, master_name)?;
        self.check(master_name, &node, None).await?;
        self.finish(Route::Master(Arc::new(node)))
    }

    async fn try_provider(self, provider: Box<dyn ConnectionProvider>) -> Result<RedisStore, Cause> {
        self.validate()?;
        if self.quorum.is_some() {
            return Err(Cause::misconfigured(
                "`wait_replicas` does not go with a provider: `WAIT` needs a connection of its own",
            ));
        }
        let deadline = Instant::now() + self.connect_timeout;
        let info = route::provided(&*provider, &check::command(), deadline).await.map_err(Fault::into_cause)?;
        let server = "the provider's server";
        check::judge(server, &info, Allowed { eviction: self.allow_eviction, cluster: true })?;
        for ping in Step::pings(&self.prefix, &record::nobodys(0)) {
            check::judge_right(server, route::provided(&*provider, &ping.command(), deadline).await)?;
        }
        self.finish(Route::Provider(provider))
    }

    pub(super) fn options(&self) -> node::Options {
        node::Options {
            connect_timeout: self.connect_timeout,
            command_timeout: self.command_timeout,
            quorum: self.quorum,
            allow_eviction: self.allow_eviction,
        }
    }

    /// The master that these Sentinels name.
    pub(super) fn master(&self, servers: Vec<ConnectionInfo>, master_name: &str) -> Result<Node, Cause> {
        let Some(first) = servers.first() else {
            return Err(Cause::misconfigured("no sentinel is named: write at least one URL"));
        };
        let mut login = RedisConnectionInfo::default().set_db(first.redis_settings().db());
        if let Some((user, password)) = &self.login {
            login = login.set_password(password);
            if !user.is_empty() {
                login = login.set_username(user);
            }
        }
        // A Sentinel has no databases: the one in its URL is the master's.
        let servers: Vec<_> = servers
            .into_iter()
            .map(|server| {
                let settings = server.redis_settings().clone().set_db(0);
                server.set_redis_settings(settings)
            })
            .collect();
        let limit = self.connect_timeout / 2;
        Ok(self.node(Target::Master(Arc::new(Sentinels::new(servers, master_name, login, limit)))))
    }

    pub(super) fn node(&self, target: Target) -> Node {
        Node::new(&target, self.options())
    }

    async fn check(&self, name: &str, node: &Node, cluster: Option<&Cluster>) -> Result<(), Cause> {
        let deadline = Instant::now() + self.connect_timeout;
        let info = node.link.send(&check::command(), deadline).await.map_err(Fault::into_cause)?;
        check::judge(name, &info, Allowed { eviction: self.allow_eviction, cluster: cluster.is_some() })?;
        let key = cluster.map_or_else(|| record::nobodys(0), |cluster| cluster.nobodys_key(name));
        for ping in Step::pings(&self.prefix, &key) {
            check::judge_right(name, node.link.send(&ping.command(), deadline).await)?;
        }
        Ok(())
    }

    fn finish(self, route: Route) -> Result<RedisStore, Cause> {
        let budget = self.command_timeout + self.quorum.map_or(Duration::ZERO, |quorum| quorum.timeout);
        Ok(RedisStore(Arc::new(Inner { route, prefix: self.prefix.into(), budget, recent: Recent::default() })))
    }

    fn validate(&self) -> Result<(), Cause> {
        self.validate_as("command_timeout", "millis(500)")
    }

    /// `option`: what the command time-out is called there, and `default` what it is. Zero would be a step that is never
    /// taken, and no deadline is as far as `Duration::MAX`.
    pub(super) fn validate_as(&self, option: &str, default: &str) -> Result<(), Cause> {
        if self.prefix.contains(['{', '}']) {
            return Err(Cause::misconfigured("the prefix holds a brace: write it without `{` and `}`"));
        }
        let timeouts = [
            (option, Some(self.command_timeout), default),
            ("connect_timeout", Some(self.connect_timeout), "secs(1)"),
            ("wait_replicas", self.quorum.map(|quorum| quorum.timeout), "millis(100)"),
        ];
        for (option, timeout, default) in timeouts {
            if timeout.is_some_and(|timeout| !(SHORTEST..=LONGEST).contains(&timeout)) {
                return Err(Cause::misconfigured(format!(
                    "`{option}` is not between 1 ms and 1 hour: write `Duration::from_{default}`"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn parse_all<U: AsRef<str>>(
        &self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<Vec<ConnectionInfo>, Cause> {
        urls.into_iter().map(|url| self.parse(url.as_ref())).collect()
    }

    /// Says nothing of the URL but what is wrong with it: it may hold a password.
    pub(super) fn parse(&self, url: &str) -> Result<ConnectionInfo, Cause> {
        let info = url.into_connection_info().map_err(|error| {
            Cause::misconfigured(format!(
                "{}: write `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, special characters percent-encoded",
                what_is_wrong(url, &error)
            ))
        })?;
        self.with_tls(info)
    }

    #[cfg(not(any(feature = "redis-rustls", feature = "redis-native-tls")))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    fn with_tls(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Cause> {
        Ok(info)
    }

    #[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
    fn with_tls(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Cause> {
        let redis::ConnectionAddr::TcpTls { .. } = info.addr() else { return Ok(info) };
        #[cfg(feature = "redis-rustls")]
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // The driver panics without one. Somebody else may be faster: then there is one.
            let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
        }
        if self.certificates.root_cert.is_none() && self.certificates.client_tls.is_none() {
            return Ok(info);
        }
        if self.certificates.root_cert.as_ref().is_some_and(|pem| !holds_a_certificate(pem)) {
            // The driver would trust nobody, and say so of the server.
            return Err(Cause::misconfigured("the root certificates hold none: write them as PEM"));
        }
        redis::Client::build_with_tls(info, self.certificates.clone())
            .map(|client| client.get_connection_info().clone())
            .map_err(|error| Cause::misconfigured(format!("the certificates cannot be used: {error}")))
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Shows no login and no key.
impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("command_timeout", &self.command_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("allow_eviction", &self.allow_eviction)
            .field("quorum", &self.quorum)
            .finish_non_exhaustive()
    }
}

#[cfg(any(feature = "redis-rustls", feature = "redis-native-tls"))]
fn holds_a_certificate(pem: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    pem.windows(BEGIN.len()).any(|window| window == BEGIN)
}

fn what_is_wrong(url: &str, error: &redis::RedisError) -> String {
    let tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
    if tls && !cfg!(any(feature = "redis-rustls", feature = "redis-native-tls")) {
        return "the URL asks for TLS: turn on the feature `redis-rustls` or `redis-native-tls`, or".to_owned();
    }
    match redis::parse_redis_url(url) {
        None => "the Redis URL does not parse".to_owned(),
        Some(_) => format!("the Redis URL is wrong ({})", error.category()),
    }
}
