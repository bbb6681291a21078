//! A Cluster: which master serves which slot, by the word of its nodes.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{ConnectionAddr, ConnectionInfo};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    fault::{Cause, Fault},
    link::Target,
    node::{Node, Options, Reply},
    record,
    script::Step,
    sentinel,
};
use crate::key::StorageKey;

/// A cheap handle; clones share the map and the connections.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Shared>);

struct Shared {
    /// Login and TLS settings of every node.
    like: ConnectionInfo,
    options: Options,
    /// As the user named them. Nodes that all have new addresses are found by these names again.
    seeds: Vec<Address>,
    /// Whether the last look found nobody who knows who serves a slot.
    is_lost: AtomicBool,
    /// Masters and replicas by address. A replica is only asked for its view of the Cluster.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    masters: RwLock<Arc<[Range]>>,
    refresh: Mutex<Option<Refresh>>,
}

type Address = Arc<str>;

/// One look at the Cluster, for whoever waits for it.
#[derive(Clone)]
struct Refresh {
    begun: Instant,
    /// Closed when it is over.
    over: watch::Receiver<()>,
}

/// Slots of one master, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
}

/// One line of `CLUSTER NODES`.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    address: Address,
    /// Grows with every failover of these slots.
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

/// How many other masters a step is sent on to before it is given up.
const HOPS: usize = 4;

/// So many nodes are asked for their view: enough to outvote one that was cut off, few enough for a large Cluster.
const ASKED: usize = 8;

/// How long the views of the others are waited for once one has come.
const GATHER: Duration = Duration::from_millis(100);

impl Cluster {
    /// Learns the Cluster from the first of `seeds` that answers.
    pub(super) async fn connect(seeds: Vec<ConnectionInfo>, options: Options) -> Result<Self, Cause> {
        let cluster = Self::new(seeds, options)?;
        cluster.0.learn(None, Instant::now() + options.connect_timeout).await?;
        Ok(cluster)
    }

    /// A Cluster that is learned with the first step.
    pub(super) fn new(seeds: Vec<ConnectionInfo>, options: Options) -> Result<Self, Cause> {
        let Some(like) = seeds.first().cloned() else {
            return Err(Cause::misconfigured("no node is named: write at least one URL"));
        };
        let cluster = Self(Arc::new(Shared {
            like,
            options,
            seeds: seeds.iter().map(|seed| seed.addr().to_string().into()).collect(),
            is_lost: AtomicBool::new(true),
            nodes: Mutex::default(),
            masters: RwLock::new(Arc::from([])),
            refresh: Mutex::default(),
        }));
        for seed in &seeds {
            if let ConnectionAddr::Unix(_) = seed.addr() {
                return Err(Cause::misconfigured("a Cluster is not reached through a socket file: write `redis://`"));
            }
        }
        Ok(cluster)
    }

    pub(super) fn waits_for_replicas(&self) -> bool {
        self.0.options.quorum.is_some()
    }

    pub(super) async fn ask(&self, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
        let slot = step.slot();
        let mut address = match self.0.master(slot) {
            Some(address) => address,
            None => {
                self.refresh(None, deadline).await;
                self.0.master(slot).ok_or_else(|| unserved(slot))?
            }
        };
        let mut repeated = false;
        let mut is_second = false;
        let mut moving = false;
        for _ in 0..=HOPS {
            let node = self.0.node(&address);
            let asked = match moving {
                true => node.ask_while_moving(step, deadline).await,
                false => node.ask(step, deadline).await,
            };
            moving = false;
            let fault = match asked {
                // The others know whether this one stood still for so long that it was replaced. It is asked again, and
                // if it is slow once more, the others are.
                Ok(reply) if reply.late && step.is_repeatable() => {
                    self.refresh(Some(&address), deadline).await;
                    let master = self.0.master(slot).ok_or_else(|| unserved(slot))?;
                    if is_second && master == address {
                        return Ok(Reply { repeated, ..reply });
                    }
                    (is_second, repeated) = (master == address, true);
                    address = master;
                    continue;
                }
                // What cannot be asked again is not believed either.
                Ok(reply) if reply.late => {
                    self.refresh(Some(&address), deadline).await;
                    let stays = self.0.master(slot).is_some_and(|master| master == address);
                    return if stays { Ok(Reply { repeated, ..reply }) } else { Err(Fault::Silent) };
                }
                Ok(reply) => return Ok(Reply { repeated: reply.repeated || repeated, ..reply }),
                Err(fault) if repeated => fault.behind_a_lost_reply(),
                Err(fault) => fault,
            };
            match redirection(&fault, &address) {
                Some((to, is_moving)) => {
                    moving = is_moving;
                    if !is_moving {
                        self.refresh(None, deadline).await;
                    }
                    address = to;
                }
                None if fault.is_elsewhere() => {
                    if matches!(fault, Fault::Broken(_)) && !step.is_repeatable() {
                        return Err(fault);
                    }
                    repeated |= matches!(fault, Fault::Broken(_));
                    self.refresh(Some(&address), deadline).await;
                    match self.0.master(slot) {
                        Some(other) if other != address => address = other,
                        // Nobody has taken its place yet.
                        _ => return Err(fault),
                    }
                }
                None => {
                    // No time is left; the next request shall know better.
                    if matches!(fault, Fault::Silent | Fault::NotReplicated) {
                        drop(self.begin_refresh(Some(&address)));
                    }
                    return Err(fault);
                }
            }
        }
        Err(Fault::Unreachable(Cause::unavailable("the slot of the key keeps moving")))
    }

    /// The masters, by address.
    pub(super) fn masters(&self) -> Vec<(Arc<str>, Arc<Node>)> {
        let mut masters: Vec<_> = self.0.ranges().iter().map(|range| range.master.clone()).collect();
        masters.sort_unstable();
        masters.dedup();
        masters.into_iter().map(|address| (address.clone(), self.0.node(&address))).collect()
    }

    /// A key that no operation has, in a slot of this master: asked of any other, it would be sent on.
    pub(super) fn nobodys_key(&self, master: &str) -> StorageKey {
        let is_its = |key: &StorageKey| self.0.master(record::slot(key)).is_some_and(|of| *of == *master);
        // So many that a single slot is hit.
        (0..1 << 18).map(record::nobodys).find(is_its).unwrap_or(record::nobodys(0))
    }

    /// Learns the Cluster anew, from now on: what was asked before may have changed since.
    async fn refresh(&self, avoid: Option<&Address>, deadline: Instant) {
        let now = Instant::now();
        loop {
            let mut refresh = self.begin_refresh(avoid);
            // An error: it is over. Nothing is ever sent.
            let in_time = timeout_at(deadline, refresh.over.changed()).await.is_ok();
            if refresh.begun >= now || !in_time {
                return;
            }
        }
    }

    /// Joins the refresh under way, or begins one, which no request's time-out cuts short.
    fn begin_refresh(&self, avoid: Option<&Address>) -> Refresh {
        let mut refresh = lock(&self.0.refresh);
        if let Some(under_way) = &*refresh {
            // Closed: it is over.
            if under_way.over.has_changed().is_ok() {
                return under_way.clone();
            }
        }
        let (done, over) = watch::channel(());
        let begun = Refresh { begun: Instant::now(), over };
        *refresh = Some(begun.clone());
        drop(refresh);
        let (shared, avoid) = (self.0.clone(), avoid.cloned());
        tokio::spawn(async move {
            let deadline = Instant::now() + shared.options.connect_timeout;
            if let Err(cause) = shared.learn(avoid.as_ref(), deadline).await {
                tracing::warn!(cause = %cause.context, "no node of the Redis Cluster tells who serves which slot");
            }
            drop(done);
        });
        begun
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.masters().into_iter().map(|(address, _)| address)).finish()
    }
}

impl Shared {
    fn master(&self, slot: u16) -> Option<Address> {
        let ranges = self.ranges();
        let index = ranges.partition_point(|range| range.last < slot);
        ranges.get(index).filter(|range| range.first <= slot).map(|range| range.master.clone())
    }

    fn ranges(&self) -> Arc<[Range]> {
        self.masters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn node(&self, address: &Address) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(address) {
            return node.clone();
        }
        let info = match split(address) {
            Some((host, port)) => self.like.clone().set_addr(sentinel::at(self.like.addr(), host.to_owned(), port)),
            None => self.like.clone(),
        };
        let node = Arc::new(Node::new(&Target::Server(info.into()), self.options));
        nodes.insert(address.clone(), node.clone());
        node
    }

    /// Asks nodes other than `avoid` for their view, and believes for each slot the one of the latest failover.
    async fn learn(&self, avoid: Option<&Address>, deadline: Instant) -> Result<(), Cause> {
        let mut asked = JoinSet::new();
        for (address, node) in self.to_ask(avoid) {
            asked.spawn(async move {
                let mut command = redis::cmd("CLUSTER");
                command.arg("NODES");
                let reply = node.link.send(&command, deadline).await;
                (address, reply)
            });
        }
        let majority = asked.len() / 2 + 1;
        let mut views: Vec<Member> = Vec::new();
        let mut heard = 0;
        let mut fault = None;
        let mut until = deadline;
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            match answer {
                Ok((address, Ok(view))) => {
                    let Ok(text) = redis::from_redis_value::<String>(view) else { continue };
                    views.extend(text.lines().filter_map(|line| member(line, &address, self.is_tls())));
                    heard += 1;
                    until = until.min(Instant::now() + GATHER);
                    if heard >= majority {
                        break;
                    }
                }
                Ok((_, Err(error))) => fault = Some(error),
                Err(_) => {}
            }
        }
        let ranges = merge(&views);
        self.is_lost.store(ranges.is_empty(), Ordering::Relaxed);
        if heard == 0 {
            return Err(fault.unwrap_or(Fault::Silent).into_cause());
        }
        if !ranges.is_empty() {
            let mut nodes = lock(&self.nodes);
            // Seeds may be names that no node calls itself by: they go while the nodes themselves are known.
            nodes.retain(|address, _| views.iter().any(|member| member.address == *address));
        }
        for member in &views {
            self.node(&member.address);
        }
        let before = self.ranges();
        let is_new = |range: &&Range| !before.iter().any(|known| known.master == range.master);
        // Whoever connects first checks all of them.
        for range in ranges.iter().filter(is_new).filter(|_| !before.is_empty()) {
            self.node(&range.master).link.doubt();
        }
        *self.masters.write().unwrap_or_else(PoisonError::into_inner) = ranges.into();
        Ok(())
    }

    /// Masters first: they vote on failovers. If nobody knew anything the last time, the seeds before them.
    fn to_ask(&self, avoid: Option<&Address>) -> Vec<(Address, Arc<Node>)> {
        let seeds = match self.is_lost.load(Ordering::Relaxed) {
            true => &self.seeds[..],
            false => &[],
        };
        for seed in seeds {
            self.node(seed);
        }
        let ranges = self.ranges();
        let nodes = lock(&self.nodes);
        let mut all: Vec<_> = nodes.iter().map(|(address, node)| (address.clone(), node.clone())).collect();
        let is_master = |address: &Address| ranges.iter().any(|range| range.master == *address);
        all.sort_by_key(|(address, _)| (!seeds.contains(address), !is_master(address)));
        if all.len() > 1 {
            all.retain(|(address, _)| Some(address) != avoid);
        }
        all.truncate(ASKED);
        all
    }

    fn is_tls(&self) -> bool {
        matches!(self.like.addr(), ConnectionAddr::TcpTls { .. })
    }
}

/// Where `MOVED` and `ASK` point, and whether only this once.
fn redirection(fault: &Fault, from: &str) -> Option<(Address, bool)> {
    let Fault::Refused(error) = fault else { return None };
    let is_moving = match error.code() {
        Some("ASK") => true,
        Some("MOVED") => false,
        _ => return None,
    };
    let (to, _) = error.redirect_node()?;
    // A node that does not know its own name leaves it out.
    let to = match (to.strip_prefix(':'), split(from)) {
        (Some(port), Some((host, _))) => join(host, port.parse().ok()?),
        _ => to.into(),
    };
    Some((to, is_moving))
}

/// A line of `CLUSTER NODES`: `ID IP:PORT@BUS,NAME FLAGS MASTER PING PONG EPOCH LINK SLOT..`.
fn member(line: &str, asked: &str, is_tls: bool) -> Option<Member> {
    let mut words = line.split(' ');
    let (address, flags) = (words.nth(1)?, words.next()?);
    if flags.split(',').any(|flag| matches!(flag, "noaddr" | "handshake")) {
        return None;
    }
    let mut names = address.split(',');
    let (host, port) = split(names.next()?.split('@').next()?)?;
    let host = match names.next() {
        // A certificate names a host, not an address.
        Some(name) if is_tls && !name.is_empty() && !name.contains('=') => name,
        _ if host.is_empty() => split(asked)?.0,
        _ => host,
    };
    let epoch = words.nth(3)?.parse().ok()?;
    let slots = words
        .skip(1)
        .filter(|word| !word.starts_with('['))
        .filter_map(|word| match word.split_once('-') {
            Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
            None => word.parse().ok().map(|slot| (slot, slot)),
        })
        .collect();
    Some(Member { address: join(host, port), epoch, slots })
}

/// One owner per slot: the claim of the highest epoch.
fn merge(members: &[Member]) -> Vec<Range> {
    let mut owners: Vec<Option<&Member>> = vec![None; 16384];
    for member in members {
        for (first, last) in &member.slots {
            for owner in owners.iter_mut().take(usize::from(*last) + 1).skip(usize::from(*first)) {
                if owner.is_none_or(|owner| owner.epoch < member.epoch) {
                    *owner = Some(member);
                }
            }
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    for (slot, owner) in (0..).zip(owners) {
        let Some(owner) = owner else { continue };
        match ranges.last_mut() {
            Some(range) if range.last + 1 == slot && range.master == owner.address => range.last = slot,
            _ => ranges.push(Range { first: slot, last: slot, master: owner.address.clone() }),
        }
    }
    ranges
}

fn unserved(slot: u16) -> Fault {
    Fault::Unreachable(Cause::unavailable(format!("no master serves slot {slot}")))
}

fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

/// As the driver writes an address.
fn join(host: &str, port: u16) -> Address {
    format!("{host}:{port}").into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: &str = "07c3 127.0.0.1:30004@31004,node4 slave e7d1 0 1426238317239 4 connected
67ed 127.0.0.1:30002@31002,node2 master - 0 1426238316232 2 connected 5461-10922
292f 127.0.0.1:30003@31003 master - 0 1426238318243 3 connected 10923-16383 [93-<-67ed]
e7d1 :30001@31001 myself,master - 0 0 1 connected 0-5459 5460
6ec2 :0@0 master,noaddr - 0 0 9 disconnected 0-16383";

    fn view(text: &str) -> Vec<Member> {
        text.lines().filter_map(|line| member(line, "10.0.0.1:30001", false)).collect()
    }

    #[test]
    fn the_view_of_a_node() {
        let members = view(VIEW);
        assert_eq!(members.len(), 4);
        let myself = Member { address: "10.0.0.1:30001".into(), epoch: 1, slots: vec![(0, 5459), (5460, 5460)] };
        assert_eq!(members[3], myself);
        let range = |first, last, master: &str| Range { first, last, master: master.into() };
        assert_eq!(
            merge(&members),
            [
                range(0, 5460, "10.0.0.1:30001"),
                range(5461, 10922, "127.0.0.1:30002"),
                range(10923, 16383, "127.0.0.1:30003"),
            ]
        );
    }

    #[test]
    fn the_latest_failover_is_believed_whoever_tells_it() {
        let before = "67ed 127.0.0.1:30002@31002 myself,master - 0 0 2 connected 0-16383";
        let after = "67ed 127.0.0.1:30002@31002 master,fail - 0 0 2 connected
07c3 127.0.0.1:30004@31004 master - 0 0 7 connected 0-16383";
        for views in [[before, after], [after, before]] {
            let members: Vec<Member> = views.iter().flat_map(|text| view(text)).collect();
            let owners = merge(&members);
            assert_eq!(owners, [Range { first: 0, last: 16383, master: "127.0.0.1:30004".into() }]);
        }
    }

    #[test]
    fn a_certificate_names_a_host() {
        let line = "67ed 10.0.0.7:30002@31002,cache-2.example,shard-id=a master - 0 0 2 connected 0-16383";
        assert_eq!(member(line, "x:1", true).map(|member| member.address).as_deref(), Some("cache-2.example:30002"));
        assert_eq!(member(line, "x:1", false).map(|member| member.address).as_deref(), Some("10.0.0.7:30002"));
    }
}
