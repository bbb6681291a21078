//! Records in Redis 7 or later, or in Valkey: one server, a master watched by Sentinels, or a Cluster.
//!
//! ```no_run
//! # async fn example() -> Result<(), idem_runtime::store::StoreError> {
//! use idem_runtime::RedisStore;
//!
//! let store = RedisStore::connect("redis://127.0.0.1:6379").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! A claim, a completion and a replay are one round trip each, over one shared connection. The claim of a key without a record is
//! one `SET .. NX GET PX`, and a `PEXPIRETIME` in the same write: calling a script costs the server several times as much. What
//! such a claim finds in its way a script judges, one round trip later, unless it is an answer that is kept as long as it is
//! remembered. All other steps are scripts, each on one key, which are loaded when a connection is opened, and again if the server
//! forgot them. Commands of requests that come together leave in one write, up to eight of them, but for those over TLS.
//!
//! The replay of an answer that this store recorded or replayed of late is a `GET`. If the record is no longer what it was, having
//! expired or been deleted, or another request comes under its key, the claim follows: one command more, once.
//!
//! With [`wait_replicas`](RedisStoreBuilder::wait_replicas), and over a [`ConnectionProvider`], every claim but such a
//! replay is a script; with the former a won claim is sent twice, the second time to be waited for.
//!
//! # What it holds to
//!
//! - Time is the server's. A lease is a value in the record, counted from the claim; it is not the expiry of its key, which comes
//!   later and tells when the claim was made.
//! - A completed record expires by itself, and one in flight where an abandoned one may be forgotten. An unknown one never does,
//!   nor one that may become unknown, or only after a hundred years.
//! - An answer that is kept for a shorter time than it is remembered stays in memory until the record goes.
//! - At the memory limit claims are refused with [`Full`](crate::store::StoreErrorKind::Full). Replays, completions and
//!   releases go on.
//! - A server that may evict records is refused when the store connects, for an evicted record runs a second time.
//!   Whoever takes over from it is asked as well, by each new connection and wherever a Cluster has a new master, and
//!   is given no claims while it evicts.
//!
//! # What it cannot hold to
//!
//! Redis replicates after it answered, so a master that dies takes its last answers along:
//! [`wait_replicas`](RedisStoreBuilder::wait_replicas) makes claims and completions wait until replicas have them.
//!
//! Without an append-only file a restart forgets records; with one that is written every second, the default, those of
//! the last second. `appendfsync always` keeps all.
//!
//! Where replicas take over, a reply older than 250 ms is believed only after the other nodes, or the Sentinels, were asked
//! who the master is now, and over a connection that was quiet for a second the Sentinels are asked before. A former master that
//! answers within the moment it goes on, before it hears that it was replaced, is believed unless replicas are waited for; behind
//! Sentinels that do not answer, for as long as they leave it a master.
//!
//! A claim is dated to the millisecond. Within one, fences grow over releases and verdicts, but not over a record that was taken from
//! the store: a key that is claimed, lost and claimed again in the same millisecond may get the same fence. Where a Cluster moves a slot,
//! a first claim that was not renewed yet is dated anew by the clock of the node that gets it, and so is its fence.
//!
//! # What lies where
//!
//! | key | |
//! |---|---|
//! | `idem:{HEX}` | one record, a string; `HEX` is the storage key, as `{:x}` writes a [`StorageKey`] |
//! | `idem:parked` | the list of parked records, a sorted set |
//!
//! Parking writes to the list first, so it is two commands. Where the list names a record that is not parked, because it
//! was resolved, or because somebody crashed between the two, [`Store::parked`] takes the entry out.
//!
//! # What the user of an access list needs
//!
//! `+evalsha +eval +script|load +time +pexpiretime +get +set +setrange +del +info +zadd +zrem +zrangebylex`, in a Cluster
//! `+cluster|nodes +asking`, with a database other than 0 `+select`, behind Sentinels `+role`, with `wait_replicas` `+wait`; and
//! `~idem:*`, or the chosen prefix.

mod builder;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod cache;
mod check;
mod cluster;
#[cfg(test)]
mod fake;
mod fault;
mod link;
mod node;
mod parked;
mod recent;
mod record;
mod replicas;
mod route;
mod script;
mod sentinel;
mod wire;

#[cfg(feature = "redis-streams")]
pub(crate) use self::{fault::Cause, wire::open};

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use redis::Value;
use tokio::time::Instant;

pub use self::builder::RedisStoreBuilder;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::cache::{RedisCache, RedisCacheBuilder};
use self::{
    fault::Fault,
    node::Reply,
    recent::Recent,
    route::Route,
    script::{Kind, Step},
};
use super::{
    Claim, Claimed, Complete, Forgotten, Outcome, Ownership, Parked, ParkedRecord, Release, Renew, Resolve, Resolved,
    Store, StoreError, StoreErrorKind, Token, Verdict,
};
use crate::key::StorageKey;

/// The driver whose types [`ConnectionProvider`] speaks.
pub use ::redis as driver;

/// Records in Redis or Valkey. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

/// Gives the store connections of a pool of one's own.
///
/// ```
/// # use idem_runtime::store::redis::{ConnectionProvider, driver as redis};
/// #[derive(Debug)]
/// struct Mine(redis::aio::MultiplexedConnection);
///
/// #[async_trait::async_trait]
/// impl ConnectionProvider for Mine {
///     async fn send(&self, command: &redis::Cmd) -> redis::RedisResult<redis::Value> {
///         self.0.clone().send_packed_command(command).await
///     }
/// }
/// ```
#[async_trait]
pub trait ConnectionProvider: Send + Sync + fmt::Debug + 'static {
    /// Sends one command to the master that serves its key, and gives back the reply.
    ///
    /// The store gives up waiting after its command time-out and drops the future. Replacing a broken or silent
    /// connection is up to the provider. It should not send a command again by itself more than once.
    async fn send(&self, command: &redis::Cmd) -> redis::RedisResult<Value>;
}

struct Inner {
    route: Route,
    prefix: Box<str>,
    /// How long one step may take, all attempts included.
    budget: Duration,
    recent: Recent,
}

impl RedisStore {
    /// A store on one server, with the options' defaults: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://`
    /// for TLS, `redis+unix:///PATH` for a socket file.
    ///
    /// `rediss://` needs one of the features `redis-rustls` and `redis-native-tls`. With both on, wherever in a program they were
    /// turned on, rustls is what speaks. rustls takes the process's provider of cryptography; if there is none, `redis-rustls`
    /// installs *ring* as that. A service that wants another one, say aws-lc-rs, installs it before it connects.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the URL, an option, the login, a version before 7, an eviction policy, an access list under which no claim can be
    /// read or dated. `Unavailable`: no answer.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// A store on a Cluster, of which some nodes are named.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn cluster<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, StoreError> {
        Self::builder().cluster(urls).await
    }

    /// A store on whichever server the Sentinels at `urls` call the master of `master_name`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn sentinel<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        master_name: &str,
    ) -> Result<Self, StoreError> {
        Self::builder().sentinel(urls, master_name).await
    }

    /// The options, before one of them connects.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::new()
    }

    /// The answer kept under a key that was seen of late. `None`: the script is to judge.
    async fn replay(&self, claim: &Claim, deadline: Instant) -> Result<Option<Claimed>, StoreError> {
        let step = Step::read(&self.0.prefix, &claim.key);
        let replay =
            self.take_by(deadline, &step, |reply| Some(record::replay(reply.value, &claim.fingerprint))).await?;
        if replay.is_none() {
            self.0.recent.forget(&claim.key);
        }
        Ok(replay)
    }

    /// Claims a key that has no record. `None`: the script is to judge.
    ///
    /// Sets `taken_perhaps` when the record may be there all the same.
    async fn first_claim(
        &self,
        claim: &Claim,
        deadline: Instant,
        taken_perhaps: &mut bool,
    ) -> Result<Option<Claimed>, StoreError> {
        let step = Step::first_claim(&self.0.prefix, claim);
        let claimed = match self.0.route.ask(&step, deadline).await {
            Ok(reply) => {
                *taken_perhaps = reply.repeated || record::is_written(&reply.value);
                record::first_claimed(reply.value, claim, script::first_kept(claim))
            }
            // A server that does not write, for want of memory or of replicas, still reads.
            Err(Fault::Refused(_)) => None,
            Err(fault) => return Err(fault.into_error(step.kind.name())),
        };
        if let Some(Claimed::Completed { .. }) = claimed {
            self.0.recent.note(&claim.key);
        }
        Ok(claimed)
    }

    async fn take<T>(&self, step: &Step, read: impl FnOnce(Reply) -> Option<T>) -> Result<T, StoreError> {
        self.take_by(self.deadline(), step, read).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.0.budget
    }

    async fn take_by<T>(
        &self,
        deadline: Instant,
        step: &Step,
        read: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, StoreError> {
        let doing = step.kind.name();
        let reply = self.0.route.ask(step, deadline).await;
        let reply = match reply {
            Ok(reply) => read(reply),
            Err(fault) if fault.is("WRONGTYPE") => match step.is_on_a_record() {
                // Something else lies under the key: a record for no step, absent for none.
                true => read(Reply {
                    value: Value::Int(if matches!(step.kind, Kind::Claim | Kind::Forget) { -1 } else { 0 }),
                    repeated: false,
                    late: false,
                }),
                false => {
                    let list = record::list_key(&self.0.prefix);
                    return Err(StoreError::new(
                        StoreErrorKind::Misconfigured,
                        format!("{doing}: what lies under `{list}` is not a list of ours: choose another `prefix`"),
                    ));
                }
            },
            Err(fault) => return Err(fault.into_error(doing)),
        };
        reply.ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                format!("{doing}: the server answered what no script of ours says"),
            )
        })
    }
}

/// Shows servers by address, never a URL.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { route, prefix, budget, .. } = &*self.0;
        f.debug_struct("RedisStore").field("route", route).field("prefix", prefix).field("budget", budget).finish()
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let deadline = self.deadline();
        let mut taken_perhaps = false;
        let claimed = if self.0.recent.holds(&claim.key) {
            self.replay(&claim, deadline).await?
        } else if self.0.route.takes_questions() {
            self.first_claim(&claim, deadline, &mut taken_perhaps).await?
        } else {
            None
        };
        if let Some(claimed) = claimed {
            return Ok(claimed);
        }
        let read = |reply: Reply| {
            if record::is_lasting(&reply.value) {
                self.0.recent.note(&claim.key);
            }
            record::claimed(reply.value)
        };
        let judged = self.take_by(deadline, &Step::claim(&self.0.prefix, &claim), read).await;
        // Whatever keeps the script from judging it, the record is there, and nobody else can give it back.
        judged.map_err(|error| if taken_perhaps { error.taken_perhaps() } else { error })
    }

    async fn claim_many(&self, claims: &[Claim]) -> Vec<Result<Claimed, StoreError>> {
        // The shared connection sends them in one burst. Those of one key wait for each other, or the second of them could
        // come first.
        let mut of_keys: HashMap<_, Vec<_>> = HashMap::new();
        for (at, claim) in claims.iter().enumerate() {
            of_keys.entry(claim.key).or_default().push((at, claim));
        }
        let in_turn = async |claims: Vec<(usize, &Claim)>| {
            let mut claimed = Vec::new();
            for (at, claim) in claims {
                claimed.push((at, self.claim(*claim).await));
            }
            claimed
        };
        let mut claimed: Vec<_> = join_all(of_keys.into_values().map(in_turn)).await.into_iter().flatten().collect();
        claimed.sort_unstable_by_key(|(at, _)| *at);
        claimed.into_iter().map(|(_, claimed)| claimed).collect()
    }

    async fn renew(&self, renew: Renew) -> Result<Ownership, StoreError> {
        self.take(&Step::renew(&self.0.prefix, &renew), ownership).await
    }

    async fn complete(&self, complete: &Complete) -> Result<Ownership, StoreError> {
        if let Outcome::Parked(_) = complete.outcome {
            self.enlist(&complete.key, &complete.token).await?;
        }
        let completed = self.take(&Step::complete(&self.0.prefix, complete), ownership).await;
        if let (Ok(Ownership::Held), Outcome::Answer(_)) = (&completed, &complete.outcome)
            && complete.remember <= complete.ttl
        {
            self.0.recent.note(&complete.key);
        }
        completed
    }

    async fn release(&self, release: Release) -> Result<Ownership, StoreError> {
        self.take(&Step::release(&self.0.prefix, &release), ownership).await
    }

    async fn resolve(&self, resolve: &Resolve) -> Result<Resolved, StoreError> {
        let enlisted = match resolve.verdict {
            Verdict::Parked(_) => Some(Token::fresh()),
            _ => None,
        };
        if let Some(by) = &enlisted {
            self.enlist(&resolve.key, by).await?;
        }
        let step = Step::resolve(&self.0.prefix, resolve);
        let resolved = self
            .take(&step, |reply| match reply.value {
                Value::Int(1) => Some(Resolved::Applied),
                Value::Int(0) => Some(Resolved::NotUnknown),
                _ => None,
            })
            .await?;
        if let (Some(by), Resolved::Applied) = (&enlisted, resolved) {
            // A verdict owns nothing: whoever listed meanwhile may have found the key absent, and the entry stale.
            self.enlist(&resolve.key, by).await?;
        }
        Ok(resolved)
    }

    async fn parked(&self, parked: Parked) -> Result<Vec<ParkedRecord>, StoreError> {
        self.list(parked).await
    }

    async fn forget(&self, key: StorageKey) -> Result<Forgotten, StoreError> {
        self.0.recent.forget(&key);
        let deadline = self.deadline();
        let read = |reply: Reply| match reply.value {
            Value::Int(1) => Some(Some(Forgotten::Done)),
            Value::Int(0) => Some(Some(Forgotten::Absent)),
            Value::Int(2) => Some(Some(Forgotten::InFlight)),
            Value::Int(3) => Some(Some(Forgotten::Unknown)),
            Value::Int(-1) => Some(None),
            _ => None,
        };
        let forgotten = match self.take_by(deadline, &Step::forget(&self.0.prefix, &key), read).await? {
            Some(forgotten) => forgotten,
            // Nothing that a script could read: no record of ours was ever written over it.
            None => {
                let delete = Step::delete_foreign(&self.0.prefix, &key);
                let deleted = |reply: Reply| matches!(reply.value, Value::Int(_)).then_some(Forgotten::Done);
                self.take_by(deadline, &delete, deleted).await?
            }
        };
        // Whoever replayed it while it was being forgotten noted it again.
        self.0.recent.forget(&key);
        Ok(forgotten)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let (deadline, pings) = (self.deadline(), Step::pings(&self.0.prefix, &record::nobodys(0)));
        try_join_all(pings.iter().map(|ping| self.take_by(deadline, ping, |_| Some(())))).await?;
        Ok(())
    }
}

fn ownership(reply: Reply) -> Option<Ownership> {
    match reply.value {
        Value::Int(1) => Some(Ownership::Held),
        // Absent. If the step was asked again, then because the first time did it.
        Value::Int(2) if reply.repeated => Some(Ownership::Held),
        Value::Int(0 | 2) => Some(Ownership::Lost),
        _ => None,
    }
}
