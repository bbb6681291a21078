//! Six processes that are a Cluster, one of which stands still until it is replaced.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use idem_runtime::{
    RedisStore, Store,
    store::{Claimed, Ownership, StoreErrorKind},
};
use tests::claims::{answer, claim, complete, redis_key, win};
use tests::servers::{Proxy, RedisCluster, eventually_async};
use tokio::task::JoinSet;

/// Keys whose slot the master with this number serves.
fn keys_of(cluster: &RedisCluster, master: usize, wanted: usize) -> Vec<u32> {
    let slots = [0..=5460, 5461..=10922, 10923..=16383];
    (0..)
        .filter(|&at| {
            let slot: u16 = cluster.server(master).run(&["CLUSTER", "KEYSLOT", &redis_key(at)]);
            slots[master].contains(&slot)
        })
        .take(wanted)
        .collect()
}

#[tokio::test]
async fn records_lie_where_their_slots_are() {
    let cluster = RedisCluster::start();
    let store = RedisStore::cluster(cluster.seeds()).await.unwrap();
    for at in 0..300 {
        win(&store, claim(at, 1)).await;
        assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
        assert_eq!(store.claim(claim(at, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    }
    let sizes: Vec<u32> = (0..3).map(|master| cluster.server(master).run(&["DBSIZE"])).collect();
    assert_eq!(sizes.iter().sum::<u32>(), 300);
    assert!(sizes.iter().all(|size| *size > 50), "{sizes:?}");
    // Nothing was sent to a wrong node first.
    let redirected: u32 = (0..6)
        .map(|number| {
            let errors: String = cluster.server(number).run(&["INFO", "errorstats"]);
            u32::from(errors.contains("errorstat_MOVED"))
        })
        .sum();
    assert_eq!(redirected, 0);

    slots_move(&cluster, &store).await;
}

/// The slot of a key of the first master, on its way to the second from now on.
fn begin_to_move(cluster: &RedisCluster, at: u32) -> String {
    let slot = cluster.server(0).run::<u16>(&["CLUSTER", "KEYSLOT", &redis_key(at)]).to_string();
    cluster.server(1).run::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(cluster, 0)]);
    cluster.server(0).run::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(cluster, 1)]);
    slot
}

fn id(cluster: &RedisCluster, master: usize) -> String {
    cluster.server(master).run(&["CLUSTER", "MYID"])
}

/// A slot on its way from one master to another, and arrived there.
async fn slots_move(cluster: &RedisCluster, store: &RedisStore) {
    let at = keys_of(cluster, 0, 400).into_iter().find(|at| *at >= 300).expect("a key not used yet");
    let slot = begin_to_move(cluster, at);
    let (fence, _) = win(store, claim(at, 1)).await;
    assert_eq!(cluster.server(1).run::<u32>(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), 1, "asked for there");
    assert_eq!(win(store, claim(at, 1)).await, (fence, 1));

    for master in [1, 0, 2] {
        cluster.server(master).run::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(cluster, 1)]);
    }
    assert_eq!(win(store, claim(at, 1)).await, (fence, 1));
    assert_eq!(store.complete(&complete(at, 1, "moved")).await.unwrap(), Ownership::Held);
}

#[tokio::test]
async fn a_dead_node_costs_a_request_no_more_than_its_time_out_and_is_replaced() {
    let timeout = Duration::from_millis(300);
    let cluster = RedisCluster::start();
    let store = RedisStore::builder().command_timeout(timeout).cluster(cluster.seeds()).await.unwrap();
    let keys = keys_of(&cluster, 0, 20);
    let others = keys_of(&cluster, 1, 20);
    for &at in &keys {
        win(&store, claim(at, 1)).await;
    }

    cluster.server(0).pause();
    for &at in &keys[..3] {
        let begun = Instant::now();
        let error = store.claim(claim(at, 2)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(begun.elapsed() < timeout + Duration::from_millis(300), "{:?}", begun.elapsed());
    }
    cluster.wait_for_failover(0);
    for &at in &keys {
        let there = eventually_async("the store finds the new master", Duration::from_secs(10), async || {
            store.claim(claim(at, 1)).await.ok()
        })
        .await;
        assert!(matches!(there, Claimed::Won { attempt: 1, .. }), "{there:?}");
    }
    for &at in &others {
        win(&store, claim(at, 1)).await;
    }
    cluster.server(0).resume();
}

/// Its settings are its own: that the first master keeps what it is given says nothing of the next.
#[tokio::test]
async fn a_replica_that_evicts_is_given_no_claims_when_it_takes_over() {
    let cluster = RedisCluster::start();
    let builder = RedisStore::builder().command_timeout(Duration::from_millis(300));
    let store = builder.cluster(cluster.seeds()).await.unwrap();
    let keys = keys_of(&cluster, 0, 3);
    win(&store, claim(keys[0], 1)).await;
    cluster.server(3).run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);

    cluster.server(0).pause();
    cluster.wait_for_failover(0);
    let refused = eventually_async("the store finds the new master", Duration::from_secs(20), async || {
        match store.claim(claim(keys[1], 1)).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => None,
            claimed => Some(claimed),
        }
    })
    .await
    .unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Misconfigured, "{refused}");
    // Other masters are what they were.
    win(&store, claim(keys_of(&cluster, 1, 1)[0], 1)).await;

    cluster.server(3).run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    win(&store, claim(keys[2], 1)).await;
    cluster.server(0).resume();
}

/// A master stands still, its replica takes over, somebody claims there, and the old master goes on: whoever had
/// asked it before must not believe what it answers now. On threads: the claims are on their way before the failover is
/// waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_granted_twice_over_a_failover() {
    const KEYS: usize = 400;
    let cluster = RedisCluster::start();
    let patient = || RedisStore::builder().command_timeout(Duration::from_secs(60));
    let before = patient().cluster(cluster.seeds()).await.unwrap();
    let waiting = patient().wait_replicas(1, Duration::from_millis(500)).cluster(cluster.seeds()).await.unwrap();
    let keys = keys_of(&cluster, 0, 2 * KEYS);
    let (asked_again, waited_for) = keys.split_at(KEYS);

    cluster.server(0).pause();
    let mut first = JoinSet::new();
    for (store, keys) in [(&before, asked_again), (&waiting, waited_for)] {
        for &at in keys {
            let store = store.clone();
            first.spawn(async move { (at, store.claim(claim(at, 1)).await) });
        }
    }
    cluster.wait_for_failover(0);

    // Seeds that know the new master.
    let seeds = [cluster.server(1).url(), cluster.server(2).url()];
    let after = RedisStore::cluster(seeds).await.unwrap();
    let mut granted = HashSet::new();
    for &at in &keys {
        let there = eventually_async("the new master answers", Duration::from_secs(10), async || {
            after.claim(claim(at, 2)).await.ok()
        })
        .await;
        assert!(matches!(there, Claimed::Won { .. }), "{there:?}");
        assert!(granted.insert(at));
    }
    cluster.server(0).resume();

    let mut twice = Vec::new();
    while let Some(answered) = first.join_next().await {
        let (at, claimed) = answered.unwrap();
        if matches!(claimed, Ok(Claimed::Won { .. })) {
            twice.push(at);
        }
    }
    assert_eq!(twice, Vec::<u32>::new(), "granted twice");
}

#[tokio::test]
async fn replicas_are_waited_for() {
    let cluster = RedisCluster::start();
    let wait = Duration::from_millis(200);
    let store = RedisStore::builder().wait_replicas(1, wait).cluster(cluster.seeds()).await.unwrap();
    let keys = keys_of(&cluster, 0, 60);

    let mut all = JoinSet::new();
    for &at in &keys[..50] {
        let store = store.clone();
        all.spawn(async move {
            win(&store, claim(at, 1)).await;
            assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
    assert_eq!(cluster.server(3).run::<u32>(&["DBSIZE"]), 50);

    // Nobody confirms: the claim is not believed, and is one's own as soon as somebody does.
    cluster.server(3).pause();
    let error = store.claim(claim(keys[50], 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    // What needs no replica is answered as ever.
    assert_eq!(store.claim(claim(keys[0], 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    cluster.server(3).resume();
    let claimed = eventually_async("the replica confirms", Duration::from_secs(20), async || {
        store.claim(claim(keys[50], 1)).await.ok()
    })
    .await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}");
    replicas_of_where_a_slot_moves_to_are_waited_for(&cluster, &store, keys[51]).await;
}

async fn replicas_of_where_a_slot_moves_to_are_waited_for(cluster: &RedisCluster, store: &RedisStore, at: u32) {
    begin_to_move(cluster, at);
    cluster.server(4).pause();
    let error = store.claim(claim(at, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    cluster.server(4).resume();
    let claimed = eventually_async("the replica confirms", Duration::from_secs(20), async || {
        store.claim(claim(at, 1)).await.ok()
    })
    .await;
    assert!(matches!(claimed, Claimed::Won { attempt: 1, .. }), "{claimed:?}");
    assert_eq!(store.complete(&complete(at, 1, "body")).await.unwrap(), Ownership::Held);
    assert_eq!(cluster.server(4).run::<u32>(&["DBSIZE"]), 1);
}

/// As where all nodes of a Cluster are started anew and have other addresses, and the name that was given is still theirs.
#[tokio::test]
async fn a_cluster_that_has_moved_as_a_whole_is_found_by_its_seed() {
    let before = RedisCluster::start();
    let seed = Proxy::start(before.server(0).port()).await;
    let store = RedisStore::builder().command_timeout(Duration::from_millis(300)).cluster([seed.url()]).await.unwrap();
    win(&store, claim(1, 1)).await;
    drop(before);
    assert_eq!(store.claim(claim(1, 1)).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let after = RedisCluster::start();
    seed.lead_to(after.server(1).port());
    let claims = async || store.claim(claim(1, 1)).await.ok();
    let won = eventually_async("the Cluster is found again", Duration::from_secs(20), claims).await;
    assert!(matches!(won, Claimed::Won { attempt: 1, .. }), "{won:?}");
}
