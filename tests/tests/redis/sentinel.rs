//! A master that three Sentinels watch, and its replica.

use std::time::Duration;

use idem_runtime::{
    RedisStore, Store,
    store::{Claimed, Complete, Outcome, Ownership, Parked, Resolve, Resolved, StoreErrorKind, Verdict},
};
use tests::claims::{DAY, answer, claim, complete, key, token, win};
use tests::servers::{SentinelTrio, eventually, eventually_async};
use tokio::task::JoinSet;

/// On threads: the claims are on their way before the failover is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_follows_the_master_and_believes_no_former_one() {
    let trio = SentinelTrio::start();
    let connect =
        |patience: Duration| RedisStore::builder().command_timeout(patience).sentinel(trio.urls(), SentinelTrio::NAME);
    let store = connect(Duration::from_millis(300)).await.unwrap();
    let patient = connect(Duration::from_secs(60)).await.unwrap();
    let unknown = RedisStore::sentinel(trio.urls(), "refunds").await.unwrap_err();
    assert!(unknown.to_string().contains("no master of that name"), "{unknown}");

    // They hear nothing while the master stands still.
    let (idle, refunding) =
        (connect(Duration::from_millis(300)).await.unwrap(), connect(Duration::from_secs(60)).await.unwrap());
    win(&idle, claim(4, 1)).await;
    win(&refunding, claim(5, 1)).await;
    let unknown = Complete::new(key(5), token(1), Outcome::Unknown, DAY);
    assert_eq!(refunding.complete(&unknown).await.unwrap(), Ownership::Held);

    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    win(&patient, claim(2, 1)).await;
    win(&store, claim(3, 1)).await;
    let parked = Complete::new(key(3), token(1), Outcome::Parked(answer("why")), DAY);
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    eventually("the replica has them, and the list", Duration::from_secs(10), || {
        (trio.replica.run::<u32>(&["DBSIZE"]) == 6).then_some(())
    });

    trio.master.pause();
    let mut late = JoinSet::new();
    for at in 100..200 {
        let patient = patient.clone();
        late.spawn(async move { patient.claim(claim(at, 1)).await });
    }
    let refund = Resolve::new(key(5), Verdict::NotExecuted);
    let late_verdict = tokio::spawn(async move { refunding.resolve(&refund).await });
    trio.wait_for_failover();

    let replay = eventually_async("the store finds the new master", Duration::from_secs(20), async || {
        store.claim(claim(1, 2)).await.ok()
    })
    .await;
    assert_eq!(replay, Claimed::Completed { answer: Some(answer("body")) });
    let listed = store.parked(Parked::first(10)).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.key).collect::<Vec<_>>(), [key(3)]);
    for at in 100..200 {
        win(&store, claim(at, 2)).await;
    }
    win(&store, claim(50, 1)).await;
    trio.master.resume();
    // At once, and quickly: the old master does not know yet.
    let claimed = idle.claim(claim(50, 2)).await;
    assert!(!matches!(claimed, Ok(Claimed::Won { .. })), "granted twice: {claimed:?}");
    let verdict = late_verdict.await.unwrap();
    assert!(!matches!(verdict, Ok(Resolved::Applied)), "the new master has heard nothing of it: {verdict:?}");
    while let Some(claimed) = late.join_next().await {
        let claimed = claimed.unwrap();
        assert!(!matches!(claimed, Ok(Claimed::Won { .. })), "granted twice: {claimed:?}");
    }
    // The patient store has left the old master as well.
    assert!(matches!(patient.claim(claim(2, 2)).await.unwrap(), Claimed::Busy { .. }));
}

/// Its settings are its own: that the first master keeps what it is given says nothing of the next.
#[tokio::test]
async fn a_replica_that_evicts_is_given_no_claims_when_it_takes_over() {
    let trio = SentinelTrio::start();
    let builder = || RedisStore::builder().command_timeout(Duration::from_millis(300));
    let store = builder().sentinel(trio.urls(), SentinelTrio::NAME).await.unwrap();
    let careless = builder().allow_eviction().sentinel(trio.urls(), SentinelTrio::NAME).await.unwrap();
    win(&store, claim(1, 1)).await;
    eventually("the replica has it", Duration::from_secs(10), || {
        (trio.replica.run::<u32>(&["DBSIZE"]) == 1).then_some(())
    });
    trio.replica.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);

    trio.master.pause();
    trio.wait_for_failover();
    let refused = eventually_async("the store finds the new master", Duration::from_secs(20), async || {
        match store.claim(claim(2, 1)).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => None,
            claimed => Some(claimed),
        }
    })
    .await
    .unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Misconfigured, "{refused}");
    assert!(refused.to_string().contains("allow_eviction"), "{refused}");
    // What ran is recorded wherever that can be done.
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    eventually_async("the other store finds it too", Duration::from_secs(20), async || {
        careless.claim(claim(2, 1)).await.ok()
    })
    .await;

    trio.replica.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    win(&store, claim(3, 1)).await;
    trio.master.resume();
}
